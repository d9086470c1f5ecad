"""`?style=` of a job's video: faces hidden in what is made of it, with its sound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from rq import Queue
from rq.serializers import JSONSerializer

from app.contract import keys
from app.contract.frames import Frame
from app.contract.renditions import VIDEOS, Style, key_of_rq_id
from tests.worker.decode.test_sound import film, tone
from tests.worker.faces.pictures import shared
from tests.worker.inference.test_hiding import SCALES, crowd
from worker.core.records import DecodedFrame, Image
from worker.decode import DecodeLimits
from worker.decode.video import VideoSource
from worker.inference.detectors import open_finder
from worker.jobs import render_job
from worker.jobs.annotate import encode

STYLES: list[Style] = ["boxes", "blur", "pixelate"]
MakeVideo = Callable[..., Path]


@pytest.fixture
def labelled(api: httpx.Client, worker: Any) -> Callable[..., str]:
    """Submits a file and labels it, with no face in it -> the job's id."""

    def make(source: bytes, **options: Any) -> str:
        answer = api.post("/v1/jobs", files={"file": ("a", source)}, data={"keep_input": "true", **options})
        job_id: str = answer.json()["id"]
        worker.label(job_id, [Frame(0, 0.0, ())])
        return job_id

    return make


@pytest.fixture
def made(
    api: httpx.Client, labelled: Callable[..., str], redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MakeVideo:
    """Has a video made in a style -> the file."""
    monkeypatch.setenv("MIEN_REDIS_URL", redis_url)
    monkeypatch.setenv("MIEN_UPLOADS", str(tmp_path / "uploads"))

    def make(source: bytes, style: Style, **options: Any) -> Path:
        job_id = labelled(source, **options)
        assert api.get(f"/v1/jobs/{job_id}/video?wait=0&style={style}").status_code == 202
        render_job.functions()[VIDEOS[style].function](job_id)
        answer = api.get(f"/v1/jobs/{job_id}/video?wait=0&style={style}")
        assert answer.status_code == 200, answer.text
        path = tmp_path / f"{style}.mp4"
        path.write_bytes(answer.content)
        return path

    return make


def frames(path: Path) -> Iterator[DecodedFrame]:
    return VideoSource(path, DecodeLimits(1000, 10**7)).frames()


def faces_in(path: Path) -> list[int]:
    """How many faces the default detector finds in each frame."""
    finder = open_finder(None, "cpu")
    return [len(finder.detect([frame.picture], None)[0]) for frame in frames(path) if frame.picture is not None]


def written(path: Path, pictures: Iterable[Image]) -> bytes:
    encode(path, ((i / 25, picture) for i, picture in enumerate(pictures)))
    return path.read_bytes()


def walking(tmp_path: Path) -> bytes:
    """A crowd whose camera moves: options of the job leave most of its faces out."""
    source = written(tmp_path / "crowd.mp4", [np.roll(crowd(), (2 * i, 3 * i), (0, 1)) for i in range(12)])
    assert min(faces_in(tmp_path / "crowd.mp4")) >= len(SCALES) - 1
    return source


@pytest.mark.parametrize("style", ["blur", "pixelate"])
def test_nobody_is_found_where_a_crowd_was(made: MakeVideo, tmp_path: Path, style: Style) -> None:
    """The default detector finds no face in the result, whatever the job left out."""
    path = made(walking(tmp_path), style, max_faces=1, min_face_px=80, min_score=0.99)
    assert faces_in(path) == [0] * 12


@pytest.mark.parametrize(("style", "name"), [("blur", "walking_people.gif"), ("pixelate", "two_people.gif")])
def test_nobody_is_found_where_people_were(made: MakeVideo, style: Style, name: str) -> None:
    """Likewise in real clips, at their own times."""
    source = shared(f"videos/{name}")
    path = made(source.read_bytes(), style)
    assert max(faces_in(source)) > 0
    assert max(faces_in(path)) == 0
    assert [f.timestamp_s for f in frames(path)] == pytest.approx([f.timestamp_s for f in frames(source)], abs=1e-3)


def test_face_crops_are_hidden_whole(made: MakeVideo, tmp_path: Path) -> None:
    """With faces=cropped there is nothing but a face in a picture."""
    crops = [crowd()[:210, :210]] * 4
    path = made(written(tmp_path / "crops.mp4", crops), "pixelate", faces="cropped")
    for frame in frames(path):
        assert frame.image is not None
        assert np.abs(np.diff(frame.image.astype(int), axis=0)).max(axis=(1, 2)).tolist().count(0) > 100


@pytest.mark.parametrize("style", STYLES)
def test_every_style_keeps_the_sound(made: MakeVideo, tmp_path: Path, style: Style) -> None:
    """And the pictures at their times."""
    source = film(tmp_path / "a.mkv", "libx264", [("libopus", tone(2.6))])
    with av.open(str(made(source.read_bytes(), style))) as video:
        assert [stream.codec_context.name for stream in video.streams.audio] == ["opus"]
        assert len(list(video.decode(video=0))) == 65


def test_sound_that_cannot_be_read_is_left_out(
    made: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures are still made."""
    monkeypatch.setattr(render_job, "SOUND_BYTES", -(10**6))
    source = film(tmp_path / "a.mkv", "libx264", [("pcm_s16le", tone(2.6))])
    with av.open(str(made(source.read_bytes(), "boxes"))) as video:
        assert not video.streams.audio
        assert len(list(video.decode(video=0))) == 65


def test_each_style_is_made_for_itself(
    api: httpx.Client, labelled: Callable[..., str], worker: Any, tmp_path: Path
) -> None:
    """Each is queued once under names of its own, which go with the job."""
    job_id = labelled(written(tmp_path / "a.mp4", [crowd()]))
    for style in [*STYLES, *STYLES]:
        answer = api.get(f"/v1/jobs/{job_id}/video?wait=0&style={style}")
        assert answer.status_code == 202
        assert answer.headers["location"].endswith("/video" if style == "boxes" else f"/video?style={style}")
    assert api.get(f"/v1/jobs/{job_id}/video?wait=0").status_code == 202
    jobs = Queue(keys.RENDER_QUEUE, connection=worker.redis, serializer=JSONSerializer).get_jobs()
    assert [job.func_name for job in jobs] == [keys.FORMER_RENDER_FUNCTION, "mien.blur", "mien.pixelate"]
    assert [key_of_rq_id(job.id) for job in jobs] == [VIDEOS[style].key(job_id) for style in STYLES]
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert [key for key in worker.redis.keys("mien:*") if job_id.encode() in key] == []


def test_a_job_that_is_removed_meanwhile_is_rendered_no_further(
    api: httpx.Client,
    labelled: Callable[..., str],
    worker: Any,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rest of its frames is not drawn, and nothing of it is left."""
    monkeypatch.setenv("MIEN_REDIS_URL", redis_url)
    monkeypatch.setenv("MIEN_UPLOADS", str(tmp_path / "uploads"))
    monkeypatch.setattr(render_job, "TELL_S", 0)
    job_id = labelled(written(tmp_path / "a.mp4", [crowd()] * 20))
    drawn: list[int] = []

    def removing(frames: Iterable[DecodedFrame], *_: Any) -> Iterator[tuple[float, Image]]:
        for frame in frames:
            drawn.append(frame.frame_index)
            if frame.frame_index == 3:
                assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
            if frame.image is not None:
                yield frame.timestamp_s, frame.image

    monkeypatch.setattr(render_job, "drawn", removing)
    render_job.render_job(VIDEOS["boxes"], job_id)
    assert drawn == [0, 1, 2, 3]
    assert list((tmp_path / "uploads").iterdir()) == []
    assert [key for key in worker.redis.keys("mien:*") if job_id.encode() in key] == []


def test_an_unknown_style_is_refused(api: httpx.Client, labelled: Callable[..., str], tmp_path: Path) -> None:
    """As other words that an option does not have; and without the input no style is made."""
    job_id = labelled(written(tmp_path / "a.mp4", [crowd()]))
    answer = api.get(f"/v1/jobs/{job_id}/video?style=mosaic")
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "invalid_option", "style")
    unkept = labelled(written(tmp_path / "a.mp4", [crowd()]), keep_input="false")
    answer = api.get(f"/v1/jobs/{unkept}/video?style=blur&wait=0")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "video" in answer.json()["detail"]
