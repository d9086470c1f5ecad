"""Annotated video, preview and thumbnail: made by the rendering job, kept beside the input, served in parts."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
import redis
from PIL import Image
from rq import Queue
from rq.serializers import JSONSerializer

from app.contract import keys
from app.contract.colours import LABEL_COLOURS, rgb
from app.contract.frames import Face, Frame
from app.contract.renditions import PREVIEW, THUMBNAIL, VIDEO
from app.routes import renditions
from worker.core.records import DecodedFrame
from worker.jobs import render_job
from worker.jobs.annotate import shrunk
from worker.jobs.thumbnail import best_face

TIMES = [0.0, 0.04, 0.08, 0.2, 0.24, 0.5, 0.54, 0.58]  # a variable rate, with gaps
MakeJob = Callable[..., str]


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    """A grey 161x121 clip (odd sizes) with the frames at TIMES."""
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 161, 121, "bgr0"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for time in TIMES:
            frame = av.VideoFrame.from_ndarray(np.full((121, 161, 3), 128, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode())
    return path.read_bytes()


@pytest.fixture
def make_job(api: httpx.Client, worker: Any, clip: bytes, monkeypatch: pytest.MonkeyPatch) -> MakeJob:
    """Submits the clip and labels it: one face in each frame."""
    scores = (0.04, 0.04, 0.04, 0.04, 0.76, 0.04, 0.04)
    face = Face(0, (40.0, 30.0, 60.0, 60.0), 0.9, scores, (scores,) * 3)

    def make(keep: bool = True) -> str:
        answer = api.post("/v1/jobs", files={"file": ("a", clip)}, data={"keep_input": str(keep).lower()})
        job_id: str = answer.json()["id"]
        worker.claim(job_id)
        worker.append(job_id, [Frame(i, time, (face,)) for i, time in enumerate(TIMES)])
        worker.finish(job_id)
        return job_id

    return make


def rendering(redis_url: str, uploads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings for the rendering job, as its process has them."""
    monkeypatch.setenv("MIEN_REDIS_URL", redis_url)
    monkeypatch.setenv("MIEN_UPLOADS", str(uploads))


def test_video_is_made_on_request_and_served_in_parts(
    api: httpx.Client, make_job: MakeJob, worker: Any, redis_url: str, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for, the video is queued once; made, it has every frame at its own time, with the box in its colour."""
    rendering(redis_url, uploads, monkeypatch)
    job_id = make_job()
    for _ in range(2):
        asked = api.get(f"/v1/jobs/{job_id}/video?wait=0")
        assert (asked.status_code, asked.json()) == (202, {"job_id": job_id, "state": "queued", "progress": None})
        assert int(asked.headers["retry-after"]) > 0
    queue = Queue(keys.RENDER_QUEUE, connection=worker.redis, serializer=JSONSerializer)
    (job,) = queue.get_jobs()
    assert job.func_name == keys.FORMER_RENDER_FUNCTION
    threading.Timer(0.5, render_job.render_job, (VIDEO, *job.args)).start()
    answer = api.get(f"/v1/jobs/{job_id}/video?wait=20")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    part = api.get(f"/v1/jobs/{job_id}/video", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, answer.content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(answer.content)}"
    assert api.get(f"/v1/jobs/{job_id}/video", headers={"Range": "bytes=-50"}).content == answer.content[-50:]
    assert api.get(f"/v1/jobs/{job_id}/video", headers={"Range": "bytes=99999999-"}).status_code == 416
    path = uploads.parent / "annotated.mp4"
    path.write_bytes(answer.content)
    with av.open(str(path)) as container:
        (stream,) = container.streams.video
        assert stream.codec_context.name in {"h264", "vp9"}
        decoded = list(container.decode(stream))
    assert [frame.time for frame in decoded] == pytest.approx(TIMES, abs=1e-3)
    edge = decoded[3].to_ndarray(format="rgb24")[60, 39:42].astype(int)
    wanted = np.array(rgb(LABEL_COLOURS["Happiness"]))
    assert np.abs(edge - wanted).sum(axis=1).min() < 120
    assert answer.content.index(b"moov") < answer.content.index(b"mdat")


def test_a_video_that_is_lost_is_made_once(api: httpx.Client, make_job: MakeJob, worker: Any) -> None:
    """A rendition marked as done whose file is missing is enqueued once, however long a client waits."""
    job_id = make_job()
    worker.redis.hset(VIDEO.key(job_id), "state", "done")
    assert api.get(f"/v1/jobs/{job_id}/video?wait=2").json()["state"] == "queued"
    assert worker.redis.lrange("rq:queue:mien-render", 0, -1) == [f"render-{job_id}".encode()]


def test_a_video_that_is_ready_just_now_is_not_made_again(
    api: httpx.Client, make_job: MakeJob, worker: Any, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rendition that becomes ready between two polls is sent."""
    job_id = make_job()
    (uploads / job_id / "video").write_bytes(b"frames")
    worker.redis.hset(VIDEO.key(job_id), "state", "done")
    real, looks = renditions._size, iter([None])
    monkeypatch.setattr(renditions, "_size", lambda *where: next(looks, real(*where)))
    answer = api.get(f"/v1/jobs/{job_id}/video?wait=0")
    assert (answer.status_code, answer.content) == (200, b"frames")
    assert not worker.redis.exists("rq:queue:mien-render")


def test_a_video_that_could_not_be_asked_for_is_asked_for_again(
    api: httpx.Client, make_job: MakeJob, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Redis fails meanwhile, the state is not `queued` without a job."""
    job_id = make_job()

    def away(*_: Any, **__: Any) -> None:
        raise redis.ConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(Queue, "enqueue_call", away)
        assert api.get(f"/v1/jobs/{job_id}/video?wait=0").status_code == 503
    assert api.get(f"/v1/jobs/{job_id}/video?wait=0").status_code == 202
    assert worker.redis.lrange("rq:queue:mien-render", 0, -1) == [f"render-{job_id}".encode()]


def test_without_the_input_there_is_no_video(api: httpx.Client, make_job: MakeJob, worker: Any) -> None:
    """A job whose input was not kept, or that has not ended, is a conflict, and nothing is queued."""
    ended = make_job(keep=False)
    running = api.post("/v1/jobs", content=b"\x1a\x45\xdf\xa3" + bytes(100), params={"keep_input": "1"}).json()["id"]
    for job_id in (ended, running):
        answer = api.get(f"/v1/jobs/{job_id}/video?wait=0")
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert not worker.redis.exists("rq:queue:mien-render")


def test_what_cannot_be_drawn_says_why(
    api: httpx.Client, make_job: MakeJob, redis_url: str, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input that cannot be read again is a conflict with the reason, not an endless wait."""
    rendering(redis_url, uploads, monkeypatch)
    job_id = make_job()
    (uploads / job_id / "input").write_bytes(b"nothing")
    assert api.get(f"/v1/jobs/{job_id}/video?wait=0").status_code == 202
    render_job.render_job(VIDEO, job_id)
    answer = api.get(f"/v1/jobs/{job_id}/video?wait=0")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert str(uploads) not in answer.text


def test_a_removed_job_leaves_no_video(
    api: httpx.Client, make_job: MakeJob, worker: Any, redis_url: str, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DELETE removes the video with the rest; a rendering that comes too late writes nothing."""
    rendering(redis_url, uploads, monkeypatch)
    job_id = make_job()
    render_job.render_job(VIDEO, job_id)
    assert (uploads / job_id / "video").exists()
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
    render_job.render_job(VIDEO, job_id)
    assert list(uploads.iterdir()) == []
    assert [key for key in worker.redis.keys("*") if job_id.encode() in key] == []


def test_frames_in_between_show_the_faces_before(make_frames: Any) -> None:
    """Between sampled frames the last faces are held, for a short while only."""
    from worker.core.records import DecodedFrame
    from worker.jobs.annotate import HOLD_S, annotate

    source = [DecodedFrame(i, i * 0.25, None) for i in range(12)]
    (first, *_) = make_frames(1)
    shown = [faces is not None for _, faces in annotate(source, [first])]
    assert shown == [i * 0.25 <= HOLD_S for i in range(12)]


def test_a_thumbnail_shows_the_best_face(
    api: httpx.Client, make_job: MakeJob, worker: Any, redis_url: str, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small square picture of the face, made before videos that wait, linked to, and gone with the job."""
    rendering(redis_url, uploads, monkeypatch)
    job_id = make_job()
    job = api.get(f"/v1/jobs/{job_id}").json()
    assert job["links"]["thumbnail"] == f"{job['links']['self']}/thumbnail"
    assert api.get(f"/v1/jobs/{job_id}/video?wait=0").status_code == 202
    assert api.get(f"/v1/jobs/{job_id}/thumbnail?wait=0").json()["state"] == "queued"
    queue = Queue(keys.RENDER_QUEUE, connection=worker.redis, serializer=JSONSerializer)
    first, second = queue.get_jobs()
    assert [first.func_name, second.func_name] == [THUMBNAIL.function, keys.FORMER_RENDER_FUNCTION]
    render_job.functions()[THUMBNAIL.function](*first.args)
    answer = api.get(f"/v1/jobs/{job_id}/thumbnail")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert len(answer.content) < 10_000
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (160, 160)
        assert picture.getpixel((80, 80)) == pytest.approx((128, 128, 128), abs=6)
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert list(uploads.iterdir()) == []
    assert [key for key in worker.redis.keys("mien:*") if job_id.encode() in key] == []


def test_without_a_face_or_the_input_there_is_no_thumbnail(api: httpx.Client, make_job: MakeJob, worker: Any) -> None:
    """A job without faces has none (404), nor one whose input was not kept or that has not ended (409)."""
    mkv = b"\x1a\x45\xdf\xa3" + bytes(100)
    none = api.post("/v1/jobs", content=mkv, params={"keep_input": "1"}).json()["id"]
    assert api.get(f"/v1/jobs/{none}/thumbnail?wait=0").status_code == 409
    worker.label(none, [Frame(0, 0.0, ())])
    assert api.get(f"/v1/jobs/{none}/thumbnail?wait=0").status_code == 404
    unkept = make_job(keep=False)
    assert api.get(f"/v1/jobs/{unkept}/thumbnail?wait=0").status_code == 409


def test_the_best_face_is_sure_large_and_clear() -> None:
    """Of several faces the most representative one."""
    clear, vague = (0.9, 0.1), (0.6, 0.4)
    faces = [
        Face(0, (0, 0, 200, 200), 0.95, vague),
        Face(1, (0, 0, 200, 200), 0.95, clear),
        Face(2, (0, 0, 20, 20), 0.99, clear),
        Face(3, (0, 0, 300, 300), 0.3, clear),
    ]
    best = best_face([Frame(n, float(n), (face,)) for n, face in enumerate(faces)])
    assert best is not None
    assert best[1].track_id == 1
    assert best_face([Frame(0, 0.0, ())]) is None


def test_a_preview_plays_everywhere_at_the_source_s_times(
    api: httpx.Client, make_job: MakeJob, redis_url: str, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every frame at its own time, without boxes; the progress is reported."""
    rendering(redis_url, uploads, monkeypatch)
    monkeypatch.setattr(render_job, "TELL_S", 0)
    job_id = make_job()
    told: list[Any] = []
    real = shrunk

    def watched(frames: Any) -> Any:
        for shown in real(frames):
            told.append(api.get(f"/v1/jobs/{job_id}/preview?wait=0").json()["progress"])
            yield shown

    monkeypatch.setattr(render_job, "shrunk", watched)
    assert api.get(f"/v1/jobs/{job_id}/preview?wait=0").status_code == 202
    render_job.render_job(PREVIEW, job_id)
    answer = api.get(f"/v1/jobs/{job_id}/preview")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    with av.open(io.BytesIO(answer.content), "r") as container:
        decoded = list(container.decode(container.streams.video[0]))
    assert [frame.time for frame in decoded] == pytest.approx(TIMES, abs=1e-3)
    assert np.abs(decoded[3].to_ndarray(format="rgb24").astype(int) - 128).max() < 10
    assert [share for share in told if share is not None] == sorted(share for share in told if share is not None)


@pytest.mark.parametrize(
    ("size", "shown"), [((1080, 1920), (720, 1280)), ((1920, 1080), (1280, 720)), ((90, 7), (90, 7))]
)
def test_a_preview_is_at_most_720_lines_high(size: tuple[int, int], shown: tuple[int, int]) -> None:
    """The shorter side, so that an upright video is as sharp as a lying one; small ones stay as they are."""
    frame = DecodedFrame(0, 0.0, np.zeros((*size, 3), np.uint8))
    assert [picture.shape[:2] for _, picture in shrunk([frame])] == [shown]
