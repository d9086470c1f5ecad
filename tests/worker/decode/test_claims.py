"""Claims of containers are trusted only as far as their packets confirm them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.worker.decode.scenes import scene, write
from worker.decode import DecodeLimits, LimitExceededError, Sampling
from worker.decode.claims import SCAN_BYTES
from worker.decode.video import VideoSource

LIMITS = DecodeLimits(1000, 1_000_000)
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}
PAUSES_MS = [0, 16, 33, 2000, 2016, 2950]


@pytest.mark.parametrize(
    ("name", "codec", "options", "times_ms"),
    [
        ("a.mp4", "libx264", FRAGMENTED, None),
        ("a.webm", "libvpx", {"live": "1"}, None),
        ("a.mp4", "libx264", {}, PAUSES_MS),
        ("a.webm", "libvpx", {}, PAUSES_MS),
        ("a.mkv", "libx264", {}, PAUSES_MS),
        ("a.ts", "libx264", {}, None),
        ("a.flv", "libx264", {}, None),
    ],
    ids=["fragmented", "recorder", "screen mp4", "screen webm", "screen mkv", "ts", "flv"],
)
def test_a_count_is_what_comes(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], times_ms: list[int] | None
) -> None:
    """Fragments, a browser's recorder, and recordings of screens whose nominal rate is 1000 claim what they hold."""
    pictures = scene(30 if times_ms is None else len(times_ms))
    path = write(tmp_path / name, pictures, codec, times_ms=times_ms, container_options=options)
    source = VideoSource(path, LIMITS)
    frames = list(source.frames())
    assert len(frames) == len(pictures)
    assert source.info.frame_count == len(frames)
    assert source.warnings == []
    assert source.info.duration_s == pytest.approx(frames[-1].timestamp_s, abs=1.0)
    assert source.info.fps is None or source.info.fps < 60


def test_a_long_recording_is_not_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The length of a container without an index is extrapolated from its first bytes."""
    path = write(tmp_path / "a.ts", scene(200, speed=0.5), "mpeg2video")
    assert 2 * path.stat().st_size < SCAN_BYTES
    monkeypatch.setattr("worker.decode.claims.SCAN_BYTES", path.stat().st_size // 4)
    source = VideoSource(path, LIMITS)
    claimed = source.info
    source.close()
    assert claimed.frame_count == pytest.approx(200, rel=0.2)
    assert claimed.duration_s == pytest.approx(8, rel=0.2)


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_too_many_frames_are_refused_at_the_start(tmp_path: Path, name: str) -> None:
    """Limits apply before the work; frames before the cut count, frames after its end do not."""
    path = write(tmp_path / name, scene(60), "mpeg4")
    few = DecodeLimits(50, 1_000_000)
    for sampling in (Sampling(), Sampling(sample_fps=1), Sampling(start_s=2.2)):
        with pytest.raises(LimitExceededError, match="more than 50 frames"):
            VideoSource(path, few, sampling)
    assert len(list(VideoSource(path, few, Sampling(end_s=1.0)).frames())) == 25
    assert len(list(VideoSource(path, DecodeLimits(60, 1_000_000)).frames())) == 60


def test_claims_that_disagree_refuse_nothing(tmp_path: Path) -> None:
    """An index that claims 100,000 frames of a clip of a second is not believed; the clip is read."""
    path = write(tmp_path / "a.mp4", scene(25), "mjpeg")
    data = bytearray(path.read_bytes())
    at = data.index(b"stts") + 12
    assert struct.unpack_from(">I", data, at) == (25,)
    struct.pack_into(">I", data, at, 100_000)
    path.write_bytes(data)
    source = VideoSource(path, DecodeLimits(1000, 1_000_000))
    frames = list(source.frames())
    assert len(frames) == 25
    assert (source.info.frame_count or 0) <= 2 * len(frames)


def test_the_limit_holds_while_decoding(tmp_path: Path) -> None:
    """Without a claim, decoding ends at the limit."""
    path = write(tmp_path / "a.ts", scene(60), "mpeg2video")
    source = VideoSource(path, DecodeLimits(50, 1_000_000))
    with pytest.raises(LimitExceededError, match="more than 50 frames"):
        list(source.frames())
