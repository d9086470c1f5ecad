"""Odd, damaged and wrong inputs through the whole service: each gets right records or the right error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.service import Api, Clips

pytestmark = pytest.mark.e2e

TOO_LARGE = 64 * 2**20 + 1


@pytest.mark.parametrize("count", [1, 8])
def test_video_shorter_than_a_window_is_labelled_whole(api: Api, clips: Clips, count: int) -> None:
    """Every frame of a 1-frame and of an 8-frame video has its record with the face's label."""
    job, frames = api.label(clips.video(clips.pictures(count)))
    assert [frame["frame_index"] for frame in frames] == list(range(count))
    assert [len(frame["faces"]) for frame in frames] == [1] * count
    assert job["input"]["frame_count"] == job["progress"]["frames_total"] == count
    for frame in frames:
        assert sum(frame["faces"][0]["scores"].values()) == pytest.approx(1, abs=1e-3)


def test_odd_sizes_are_labelled_in_source_pixels(api: Api, clips: Clips) -> None:
    """A video of odd width and height keeps its size, and boxes lie in it around the face."""
    job, frames = api.label(clips.video(clips.pictures(10, (319, 241))))
    assert (job["input"]["width"], job["input"]["height"]) == (319, 241)
    assert len(frames) == 10
    for frame in frames:
        (face,) = frame["faces"]
        x, y, width, height = face["bbox"]
        assert x < 319 / 2 < x + width <= 319
        assert y < 241 / 2 < y + height <= 241


def test_phone_video_is_turned_upright(api: Api, clips: Clips) -> None:
    """The display matrix is obeyed: upright size, and the face is found in the middle of the upright picture."""
    job, frames = api.label(clips.phone_video(clips.pictures(10, (240, 320))))
    assert (job["input"]["width"], job["input"]["height"]) == (240, 320)
    for frame in frames:
        (face,) = frame["faces"]
        x, y, width, height = face["bbox"]
        assert x + width / 2 == pytest.approx(120, abs=30)
        assert y + height / 2 == pytest.approx(160, abs=30)


def test_a_call_that_changes_its_size(api: Api, clips: Clips) -> None:
    """Pictures of another size than the job's say theirs, and the face is found in the middle of it."""
    wide, high = clips.pictures(12), clips.pictures(12, (240, 320))
    content = clips.video(wide, container="mpegts") + clips.video(high, container="mpegts")
    job, frames = api.label(content, "call.ts")
    assert (job["input"]["width"], job["input"]["height"]) == (320, 240)
    assert 22 <= len(frames) <= 24
    turned = [frame for frame in frames if "width" in frame]
    assert len(turned) == 12
    for frame in frames:
        assert ("width" in frame) is ("height" in frame) is (frame in turned)
        width, height = (frame["width"], frame["height"]) if frame in turned else (320, 240)
        assert (width, height) == ((240, 320) if frame in turned else (320, 240))
        (face,) = frame["faces"]
        x, y, w, h = face["bbox"]
        assert x + w / 2 == pytest.approx(width / 2, abs=30)
        assert y + h / 2 == pytest.approx(height / 2, abs=30)


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_variable_frame_rate_keeps_the_container_s_times(api: Api, clips: Clips, container: str) -> None:
    """Timestamps are those the file was written with, not index divided by rate."""
    times_ms = np.cumsum([0, 40, 40, 200, 15, 15, 500, 33, 34, 90, 1000, 40]).tolist()
    job, frames = api.label(clips.video(clips.pictures(len(times_ms)), container=container, times_ms=times_ms))
    assert [frame["timestamp_s"] for frame in frames] == pytest.approx([ms / 1000 for ms in times_ms], abs=6e-4)
    assert job["warnings"] == []
    assert job["input"]["frame_count"] == len(times_ms)


def test_animated_gif_is_a_video(api: Api, clips: Clips) -> None:
    """Every frame of a GIF has a record at its own time."""
    job, frames = api.label(clips.video(clips.pictures(6), container="gif", times_ms=[0, 100, 200, 500, 600, 700]))
    assert (job["input"]["kind"], job["input"]["width"], job["input"]["height"]) == ("video", 320, 240)
    assert [frame["timestamp_s"] for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.5, 0.6, 0.7], abs=6e-4)


@pytest.mark.parametrize(("container", "options"), [("mp4", {"movflags": "faststart"}), ("matroska", {})])
def test_video_cut_in_the_middle_is_labelled_as_far_as_it_goes(
    api: Api, clips: Clips, container: str, options: dict[str, str]
) -> None:
    """A truncated file succeeds with its readable frames and a warning."""
    whole = clips.video(clips.pictures(60), container=container, options=options)
    job, frames = api.label(whole[: len(whole) // 2])
    assert 10 < len(frames) < 50
    assert [frame["frame_index"] for frame in frames] == list(range(len(frames)))
    assert job["input"]["frame_count"] == job["progress"]["frames_total"] == len(frames)
    assert any("ends early" in warning for warning in job["warnings"])


def test_whole_video_has_no_warnings(api: Api, clips: Clips) -> None:
    """Warnings mean something: an ordinary video has none."""
    for container in ("mp4", "matroska"):
        job, frames = api.label(clips.video(clips.pictures(30), container=container))
        assert len(frames) == 30
        assert job["warnings"] == []


@pytest.mark.parametrize("kind", ["no index", "only sound", "only the first bytes"])
def test_what_holds_no_picture_fails_as_undecodable(api: Api, clips: Clips, kind: str) -> None:
    """An mp4 without its index, one without video and one without anything fail for their owner to read."""
    video = clips.video(clips.pictures(20))
    assert video.index(b"moov") > len(video) // 2
    content = {"no index": video[: len(video) // 2], "only sound": clips.sound(), "only the first bytes": video[:32]}
    job = api.ended(api.submit(content[kind])["id"])
    assert job["state"] == "failed"
    assert job["error"]["code"] == "undecodable_input"
    assert "/" not in job["error"]["detail"]
    assert api.frames(job["id"]) == []


def test_worker_lives_on_after_bad_input(api: Api, clips: Clips) -> None:
    """A job that fails costs no other job anything: the next one is served by the same loaded model."""
    loads = api.service.model_loads()
    assert api.ended(api.submit(clips.sound())["id"])["state"] == "failed"
    _, frames = api.label(clips.video(clips.pictures(3)))
    assert len(frames) == 3
    assert api.service.model_loads() == loads


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("content", [b"", b"this is a letter, not a film\n" * 100], ids=["empty", "text"])
def test_what_is_no_video_is_refused_at_once(api: Api, content: bytes, raw: bool) -> None:
    """An empty file and text named .mp4 are 415 `unsupported_media`, as a form and as the body."""
    if raw:
        answer = api.http.post("/v1/jobs", content=content, headers={"Content-Type": "video/mp4"})
    else:
        answer = api.http.post("/v1/jobs", files={"file": ("film.mp4", content, "video/mp4")})
    assert answer.status_code == 415
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unsupported_media"


@pytest.mark.parametrize(
    ("option", "value"), [("sampel_fps", "5"), ("sample_fps", "fast"), ("members", "cnn,rnn"), ("model", "nobody")]
)
def test_option_that_cannot_be_is_named(api: Api, clips: Clips, option: str, value: str) -> None:
    """An unknown option, a wrong type, an unknown member or model is 422 `invalid_option` that names the field."""
    files = {"file": ("clip.mp4", clips.video(clips.pictures(2)))}
    answer = api.http.post("/v1/jobs", files=files, data={option: value})
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_option"
    assert option in answer.json()["detail"]


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_upload_over_the_limit_is_refused(api: Api, clips: Clips, declared: bool) -> None:
    """One byte more than MIEN_MAX_UPLOAD_BYTES is 413 `upload_too_large`, whether or not its length is declared."""
    head = clips.video(clips.pictures(2))
    content = head + bytes(TOO_LARGE - len(head))
    pieces = (content[i : i + 2**16] for i in range(0, len(content), 2**16))
    answer = api.http.post("/v1/jobs", content=content if declared else pieces, headers={"Content-Type": "video/mp4"})
    assert answer.status_code == 413
    assert answer.json()["code"] == "upload_too_large"
