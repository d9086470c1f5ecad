"""A posted video comes back labelled: submitting, options and results through the whole service."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.service import Api, Clips, Service

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
VIDEOS = ROOT.parent / "shared" / "videos"
COUNT = 70  # more than a chunk of results


@pytest.fixture(scope="module")
def clip(clips: Clips) -> bytes:
    """A face at 25 frames a second."""
    return clips.video(clips.pictures(COUNT))


@pytest.fixture
def videos() -> Path:
    """Folder of real clips, which are not part of the repository."""
    if not VIDEOS.is_dir():
        pytest.skip(f"no real clips: {VIDEOS.name} is not beside the checkout")
    return VIDEOS


def test_every_frame_comes_back_with_its_face(api: Api, clip: bytes) -> None:
    """Frames in = records out, in order, with the container's times, the one face, one track and full scores."""
    job, frames = api.label(clip)
    assert [frame["frame_index"] for frame in frames] == list(range(COUNT))
    assert [frame["timestamp_s"] for frame in frames] == pytest.approx([i / 25 for i in range(COUNT)], abs=6e-4)
    assert (job["input"]["width"], job["input"]["height"], job["input"]["kind"]) == (320, 240, "video")
    assert job["input"]["fps"] == pytest.approx(25)
    assert job["input"]["bytes"] == len(clip)
    assert job["progress"]["frames_done"] == job["progress"]["frames_total"] == COUNT
    assert job["warnings"] == []
    assert job["attempts"] == 1
    for frame in frames:
        (face,) = frame["faces"]
        assert face["track_id"] == 0
        assert 0 < face["detection_score"] <= 1
        assert list(face["scores"]) == job["labels"]
        assert sum(face["scores"].values()) == pytest.approx(1, abs=1e-3)
        assert face["score"] == max(face["scores"].values()) == face["scores"][face["label"]]
        x, y, width, height = face["bbox"]
        assert x < 160 < x + width
        assert y < 120 < y + height


def test_smile_is_seen(api: Api, clip: bytes) -> None:
    """The astronaut smiles, and most frames say so."""
    _, frames = api.label(clip)
    assert sum(frame["faces"][0]["label"] == "Happiness" for frame in frames) > COUNT / 2


def test_the_default_detector_serves_where_none_is_configured(service: Service, api: Api, clip: bytes) -> None:
    """Without a setting the detector that ships finds faces, and job and health say so."""
    job, _ = api.label(clip, sample_fps=1)
    assert job["detector"] == "default"
    assert [worker["detector"] for worker in service.wait_ready()["workers"]] == ["default"]


def test_raw_body_is_labelled_as_a_form_is(api: Api, clip: bytes) -> None:
    """The video as the body with its Content-Type, and options in the query, gives the records of a form."""
    answer = api.http.post("/v1/jobs", params={"sample_fps": "5"}, content=clip, headers={"Content-Type": "video/mp4"})
    assert answer.status_code == 202
    job = api.ended(answer.json()["id"])
    assert answer.headers["location"].endswith(f"/v1/jobs/{job['id']}")
    _, expected = api.label(clip, sample_fps=5)
    assert len(expected) == 14
    assert api.frames(job["id"]) == expected


def test_several_frames_are_one_clip(api: Api, clips: Clips) -> None:
    """Images sent as `frames` come back in their order, at the given rate."""
    files = [("frames", (f"{name}.png", clips.png(index))) for index, name in enumerate("dcbaefghijkl")]
    answer = api.http.post("/v1/jobs", files=files, data={"fps": "10"})
    assert answer.status_code == 202, answer.text
    job = api.ended(answer.json()["id"])
    frames = api.frames(job["id"])
    assert (job["state"], job["input"]["kind"], job["input"]["frame_count"]) == ("succeeded", "frames", 12)
    assert [frame["timestamp_s"] for frame in frames] == pytest.approx([index / 10 for index in range(12)])
    assert [len(frame["faces"]) for frame in frames] == [1] * 12
    for index in (0, len(frames) - 1):
        _, (alone,) = api.label(clips.png(index), "alone.png")
        # A face alone in time is not steadied: its box is as exact as a single look, some percent of its size.
        assert frames[index]["faces"][0]["bbox"] == pytest.approx(alone["faces"][0]["bbox"], abs=6)


def test_one_image_is_a_clip_of_one_frame(api: Api, clips: Clips) -> None:
    """An image as `file` has one record, at time 0."""
    job, frames = api.label(clips.png(0), "portrait.png")
    assert job["input"]["kind"] == "frames"
    assert [(frame["frame_index"], frame["timestamp_s"], len(frame["faces"])) for frame in frames] == [(0, 0, 1)]


def test_cropped_frames_are_one_track_without_detection(api: Api, clip: bytes) -> None:
    """`faces=cropped`: every frame is one face, track 0, whole frame, no detection score."""
    _, frames = api.label(clip, faces="cropped")
    assert len(frames) == COUNT
    for frame in frames:
        (face,) = frame["faces"]
        assert face["track_id"] == 0
        assert face["detection_score"] is None
        assert face["bbox"] == [0, 0, 320, 240]


def test_part_and_rate_choose_the_frames(api: Api, clip: bytes) -> None:
    """`start_s` is included, `end_s` is not, and `sample_fps` thins out what is between."""
    _, frames = api.label(clip, start_s=0.4, end_s=1.2)
    assert [frame["frame_index"] for frame in frames] == list(range(10, 30))
    job, frames = api.label(clip, start_s=0.4, end_s=1.2, sample_fps=5)
    assert [frame["frame_index"] for frame in frames] == [10, 15, 20, 25]
    assert job["progress"]["frames_done"] == job["progress"]["frames_total"] == 4


def test_max_faces_keeps_the_largest(api: Api, clips: Clips) -> None:
    """Of two faces side by side both are labelled as two tracks; with `max_faces=1` only the larger one."""
    small = clips.picture(0, (240, 240))
    large = clips.picture(0, (240, 240)).repeat(2, axis=0).repeat(2, axis=1)
    padded = np.pad(small, ((120, 120), (0, 0), (0, 0)))
    pictures = [np.hstack([padded, large])] * 6
    video = clips.video(pictures)
    _, both = api.label(video)
    assert [len({face["track_id"] for face in frame["faces"]}) for frame in both] == [2] * 6
    _, one = api.label(video, max_faces=1)
    for frame, pair in zip(one, both, strict=True):
        (face,) = frame["faces"]
        assert face["bbox"][2] == max(other["bbox"][2] for other in pair["faces"])


def test_members_that_are_asked_for_are_fused(api: Api, clip: bytes) -> None:
    """A subset answers with its members only; one alone is its own fusion, and differs from all three."""
    job, alone = api.label(clip, members="cnn_rnn", sample_fps=5)
    _, whole = api.label(clip, sample_fps=5)
    assert alone != whole
    for frame in api.frames(job["id"], members="true"):
        (face,) = frame["faces"]
        assert list(face["members"]) == ["cnn_rnn"]
        assert face["members"]["cnn_rnn"] == pytest.approx(face["scores"], abs=1e-3)
    job, _ = api.label(clip, members="cnn,cnn_transformer", sample_fps=5)
    assert {tuple(f["faces"][0]["members"]) for f in api.frames(job["id"], members="true")} == {
        ("cnn", "cnn_transformer")
    }


def test_a_prior_moves_the_scores_and_not_the_faces(api: Api, clip: bytes, tmp_path: Path) -> None:
    """By the model's published shares, also for members' scores; `worker label` does the same."""
    prior = api.http.get("/v1/models/default").json()["prior"]
    job, plain = api.label(clip, prior=prior["trained"], sample_fps=5)
    balanced, moved = api.label(clip, prior="balanced", sample_fps=5)
    assert (job["prior"], balanced["prior"], balanced["options"]["prior"]) == (prior["trained"], 0, "balanced")
    assert api.label(clip, sample_fps=5)[0]["prior"] == prior["default"]
    factors = np.array(prior["shares"]) ** -prior["trained"]
    for before, after in zip(plain, moved, strict=True):
        (was,), (found,) = before["faces"], after["faces"]
        expected = np.array(list(was["scores"].values())) * factors
        assert list(found["scores"].values()) == pytest.approx(expected / expected.sum(), abs=3e-3)
        assert (found["bbox"], found["label"]) == (was["bbox"], max(found["scores"], key=found["scores"].__getitem__))
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    command = (sys.executable, "-m", "worker", "label", str(path), "--prior", "balanced", "--sample-fps", "5")
    assert json.loads(api.service.run(*command))["frames"] == moved


def test_pages_read_while_it_runs_are_the_final_ones(api: Api, long_clip: bytes) -> None:
    """A reader who follows `next` from the start of the job sees exactly what is read after its end."""
    job = api.submit(long_clip)
    api.running(job["id"])
    first = api.http.get(f"/v1/jobs/{job['id']}/frames", params={"limit": 50}).json()
    assert first["complete"] is False
    assert first["frames"]
    during = api.frames(job["id"], limit=50)
    assert api.ended(job["id"])["state"] == "succeeded"
    after = api.frames(job["id"])
    assert len(after) == 400
    assert during == after
    assert first["frames"] == after[: len(first["frames"])]


def test_label_command_gives_the_same_records(api: Api, clip: bytes, tmp_path: Path) -> None:
    """`worker label` and the service run one pipeline: equal labels, equal records."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    printed = json.loads(api.service.run(sys.executable, "-m", "worker", "label", str(path), "--format", "json"))
    job, frames = api.label(clip)
    assert printed["labels"] == job["labels"]
    assert printed["frames"] == frames


def test_second_job_loads_no_model(service: Service, api: Api, clip: bytes) -> None:
    """Jobs share what the worker loaded: it loads its bundle once, however many jobs come."""
    for _ in range(2):
        api.label(clip, sample_fps=2)
        assert service.model_loads() == 1


def test_annotated_video_is_made_while_the_input_is_kept(api: Api, clip: bytes) -> None:
    """With `keep_input` there is an mp4 with the frames of the input; DELETE removes both."""
    job, _ = api.label(clip, keep_input="true")
    for _ in range(4):
        answer = api.http.get(f"/v1/jobs/{job['id']}/video", params={"wait": 20})
        if answer.status_code != 202:
            break
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(answer.content), "r") as video:
        sizes = [(frame.width, frame.height) for frame in video.decode(video=0)]
    assert sizes == [(320, 240)] * COUNT
    assert api.http.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert api.http.get(f"/v1/jobs/{job['id']}").status_code == 404


def test_real_face_is_labelled_in_nearly_every_frame(api: Api, videos: Path) -> None:
    """A real person's clip has a labelled face in nearly every frame."""
    _, frames = api.label((videos / "single_face.mp4").read_bytes())
    assert len(frames) == 72
    assert sum(bool(frame["faces"]) for frame in frames) >= 65


def test_real_video_without_faces_has_empty_records(api: Api, videos: Path) -> None:
    """A real clip without people has a record a frame, all without faces."""
    _, frames = api.label((videos / "no_face.mp4").read_bytes())
    assert len(frames) == 95
    assert [frame["faces"] for frame in frames] == [[]] * 95


def test_everything_that_can_be_asked_of_faces(api: Api, clip: bytes) -> None:
    """People, baseline and landmarks of one job: all of it in every record once it has ended, and in the summary."""
    job, frames = api.label(clip, people=True, baseline="auto", landmarks=True)
    assert len(frames) == COUNT
    for frame in frames:
        (face,) = frame["faces"]
        assert face["person_id"] == 0
        assert set(face["change"]) == set(job["labels"])
        assert len(face["landmarks"]) == 5
        assert abs(face["pose"]["roll"]) < 15
    summary = api.http.get(f"/v1/jobs/{job['id']}/summary").json()
    (person,) = summary["people"]
    assert person["frames"] == COUNT
    assert person["trust"]["trusted"] > 0.9
    assert person["moments"]
    assert 0 <= person["best_frame"]["frame_index"] < COUNT
