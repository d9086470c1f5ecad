"""Damaged packets: everything around them that FFmpeg decodes is read, and one warning counts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import av
import pytest

from tests.worker.decode.scenes import read, remux, scene, write
from worker.decode import DecodeLimits
from worker.decode.container import OpenVideo
from worker.decode.video import VideoSource

COUNT = 472
LIMITS = DecodeLimits(2000, 1_000_000)
CASES = [
    ("libx264", "mp4"),
    ("libvpx", "mkv"),
    ("libx265", "mkv"),
    ("libx264", "ts"),
    ("mjpeg", "avi"),
    ("mpeg4", "avi"),
    ("mpeg4", "mp4"),
]
USUAL = [("libx264", "mp4"), ("libvpx", "mkv")]


def what_ffmpeg_decodes(path: Path) -> int:
    """Frames of one plain decoder on one thread, errors passed over, as the ffmpeg program does."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        stream.codec_context.flags |= av.codec.context.Flags.output_corrupt
        frames = 0
        for packet in container.demux(stream):
            try:
                frames += len(packet.decode())
            except av.FFmpegError:
                continue
        return frames


def zeroed(source: Path, path: Path, numbers: set[int]) -> Path:
    """The same file with these packets' bytes zeroed."""

    def edit(n: int, packet: Any) -> Any:
        if n not in numbers:
            return packet
        blank = av.Packet(bytes(packet.size))
        blank.pts, blank.dts, blank.time_base = packet.pts, packet.dts, packet.time_base
        blank.is_keyframe = packet.is_keyframe
        return blank

    return remux(source, path, edit)


@pytest.mark.parametrize("damaged", [1, 30, 100])
@pytest.mark.parametrize(
    ("codec", "suffix"), [pytest.param(*case, marks=() if case in USUAL else pytest.mark.long) for case in CASES]
)
def test_what_can_be_decoded_is(tmp_path: Path, codec: str, suffix: str, damaged: int) -> None:
    """1, 30 and 100 of 472 packets: within two frames of FFmpeg itself, to the end, at times that grow."""
    pictures = scene(24, (96, 64))
    options = {"x265-params": "keyint=24:log-level=none"} if codec == "libx265" else {"g": "24"}
    whole = write(
        tmp_path / f"whole.{suffix}", (pictures[i % 24] for i in range(COUNT)), codec, rate=24, options=options
    )
    numbers = set(random.Random(damaged).sample(range(1, COUNT - 1), damaged))
    path = zeroed(whole, tmp_path / f"damaged.{suffix}", numbers)
    source = VideoSource(path, LIMITS)
    frames = list(source.frames())
    assert abs(len(frames) - what_ffmpeg_decodes(path)) <= 2
    assert len(frames) >= COUNT - 2 * damaged if codec != "libx265" else frames
    shown = [frame.timestamp_s for frame in frames]
    assert shown == sorted(set(shown))
    assert shown[-1] == pytest.approx(471 / 24, abs=0.1)
    assert len(source.warnings) == 1
    assert "packets of the video are damaged" in source.warnings[0]
    assert str(len(frames)) in source.warnings[0]
    if suffix == "ts":  # whose reader drops what it cannot parse
        assert "are missing" in source.warnings[0]


@pytest.mark.parametrize("threads", [1, 3, 8, 16])
@pytest.mark.parametrize("damaged", [{56}, {52, 57}, {59}])
def test_errors_in_the_last_packets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: set[int], threads: int
) -> None:
    """Later frames are decoded, with any number of FFmpeg's threads."""
    monkeypatch.setenv("DECODING_THREADS", str(threads))
    whole = write(tmp_path / "whole.mp4", scene(60, (96, 64)), options={"g": "20", "bf": "2"})
    path = zeroed(whole, tmp_path / "damaged.mp4", damaged)
    assert len(read(path)) == what_ffmpeg_decodes(path)


def test_a_whole_clip_has_no_warning(tmp_path: Path) -> None:
    """A clip without problems has no warnings."""
    source = VideoSource(write(tmp_path / "a.mp4", scene(30)), LIMITS)
    assert len(list(source.frames())) == 30
    assert source.warnings == []


def test_noise_between_packets_of_a_broadcast(tmp_path: Path) -> None:
    """Bytes that were lost or added cost the pictures around them and nothing more."""
    path = write(tmp_path / "a.ts", scene(100), "mpeg2video", options={"g": "10"})
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + random.Random(0).randbytes(5000) + data[middle + 3000 :])
    frames = read(path)
    assert len(frames) >= 85
    assert frames[-1].timestamp_s == pytest.approx(99 / 25, abs=0.05)


class Late:
    """A container in which a track appears while it is read: PyAV ends with an error that nothing is wrong with."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def demux(self) -> Any:
        yield from self._container.demux()
        raise IndexError("list index out of range")


def test_a_track_that_appears_late_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pictures are there, and the claims."""
    path = write(tmp_path / "a.ts", scene(10), "mpeg2video")
    real = OpenVideo.__init__

    def opened(self: OpenVideo, *given: Any) -> None:
        real(self, *given)
        self.container = cast(Any, Late(self.container))

    monkeypatch.setattr(OpenVideo, "__init__", opened)
    source = VideoSource(path, LIMITS)
    assert source.info.frame_count == 10
    assert len(list(source.frames())) == 10
    assert source.warnings == []
