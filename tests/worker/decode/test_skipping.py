"""Skipping frames that are not sampled changes no other frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.worker.decode.scenes import read, scene, write
from worker.decode import DecodeLimits, Sampler, Sampling
from worker.decode.video import VideoSource

LIMITS = DecodeLimits(2000, 1_000_000)
COUNT = 120
RNG = np.random.default_rng(3)
UNEVEN_MS = np.cumsum(RNG.choice([8, 16, 17, 40, 130, 600], COUNT)).tolist()
PYRAMID = {"preset": "veryfast", "bf": "4", "b-pyramid": "normal", "g": "48"}
CLIPS = {
    "h264": ("a.mp4", "libx264", PYRAMID, None),
    "h264 uneven": ("a.mkv", "libx264", PYRAMID, UNEVEN_MS),
    "h264 open": ("a.mp4", "libx264", {**PYRAMID, "x264-params": "open-gop=1:keyint=12:min-keyint=12"}, None),
    "keyframes": ("a.mp4", "libx264", {"preset": "ultrafast", "g": "1"}, None),
    "mjpeg": ("a.mov", "mjpeg", {}, UNEVEN_MS),
    "hevc": ("a.mp4", "libx265", {"x265-params": "bframes=4:keyint=48:log-level=none"}, None),
    "vp9": ("a.webm", "libvpx-vp9", {}, UNEVEN_MS),
    "prores": ("a.mov", "prores_ks", {}, None),
}
USUAL = {"h264", "h264 uneven", "keyframes", "hevc"}
SAMPLINGS = [
    Sampling(sample_fps=5),
    Sampling(sample_fps=24),
    Sampling(sample_fps=1.7, start_s=0.31, end_s=1.6),
    Sampling(start_s=0.5),
    Sampling(start_s=0.5, end_s=0.7),
]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in USUAL else pytest.mark.long) for name in CLIPS]
)
def test_sampled_frames_are_those_of_decoding_everything(tmp_path: Path, name: str) -> None:
    """The same frames with the same indices, times and pictures, and the same count at the end."""
    file, codec, options, times_ms = CLIPS[name]
    path = write(tmp_path / file, scene(COUNT, (96, 64)), codec, rate=60, options=options, times_ms=times_ms)
    everything = read(path)
    assert len(everything) == COUNT
    for sampling in SAMPLINGS:
        sampler = Sampler(sampling)
        wanted = [frame for frame in everything if sampler.wants(frame.timestamp_s)]
        source = VideoSource(path, LIMITS, sampling)
        found = list(source.frames())
        assert [(f.frame_index, f.timestamp_s) for f in found] == [(f.frame_index, f.timestamp_s) for f in wanted]
        assert all(np.array_equal(a.image, b.image) for a, b in zip(found, wanted, strict=True))  # type: ignore[arg-type]
        assert source.decoded == (COUNT if sampling.end_s is None else source.decoded)
        assert source.warnings == []


def test_pictures_that_stand_alone_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If every picture is a keyframe, those between the samples never reach the decoder."""
    path = write(tmp_path / "a.mp4", scene(COUNT, (96, 64)), rate=60, options={"g": "1"})
    source = VideoSource(path, LIMITS, Sampling(sample_fps=5))
    reached: list[int] = []
    usual = source._track._decode

    def decode(packet: Any) -> Any:
        reached.append(1)
        return usual(packet)

    monkeypatch.setattr(source._track, "_decode", decode)
    assert len(list(source.frames())) == 10
    assert source.decoded == COUNT
    assert len(reached) < COUNT / 4


def test_interlaced_pictures_are_all_decoded(tmp_path: Path) -> None:
    """Their neighbours take part in them."""
    from tests.worker.decode.scenes import fields_first

    path = write(
        tmp_path / "a.mp4", scene(40), "libx264", options={"x264-params": "tff=1:keyint=1"}, change=fields_first()
    )
    everything = read(path)
    found = read(path, Sampling(sample_fps=5))
    assert [frame.frame_index for frame in found] == list(range(0, 40, 5))
    for frame in found:
        assert np.array_equal(frame.image, everything[frame.frame_index].image)  # type: ignore[arg-type]
