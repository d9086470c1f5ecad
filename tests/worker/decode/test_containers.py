"""Containers and codecs: what the front end takes by its first bytes, the decoder reads whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.contract.media import HEAD_BYTES, kind_of
from tests.worker.decode.scenes import DV_SIZE, RATE, difference, images, scene, times, write
from worker.decode import DecodeLimits, UndecodableInputError
from worker.decode.container import DEMUXERS
from worker.decode.video import VideoSource

LIMITS = DecodeLimits(1000, 1_000_000)
COUNT = 20
CLOSE = 8.0
# File, FFmpeg's muxer, codec, the front end's name of the kind.
ROWS = [
    ("a.mp4", "mp4", "libx264", "mp4"),
    ("a.flv", "flv", "libx264", "flv"),
    ("a.wmv", "asf", "wmv2", "asf"),
    ("a.m2ts", "mpegts", "libx264", "m2ts"),
    ("a.mpg", "mpeg", "mpeg2video", "mpeg"),
    ("a.webm", "webm", "libvpx-vp9", "matroska"),
    ("a.flv", "flv", "flv", "flv"),
    ("a.mov", "mov", "prores_ks", "mp4"),
    ("a.mov", "mov", "mjpeg", "mp4"),
    ("a.3gp", "3gp", "h263", "mp4"),
    ("a.mkv", "matroska", "libx265", "matroska"),
    ("a.mkv", "matroska", "ffv1", "matroska"),
    ("a.avi", "avi", "mjpeg", "avi"),
    ("a.avi", "avi", "mpeg4", "avi"),
    ("a.ts", "mpegts", "libx265", "mpegts"),
    ("a.mxf", "mxf", "mpeg2video", "mxf"),
    ("a.dv", "dv", "dvvideo", "dv"),
    ("a.ogv", "ogg", "libvpx", "ogg"),
    ("a.mp4", "mp4", "libsvtav1", "mp4"),
    ("a.webm", "webm", "libsvtav1", "matroska"),
    ("a.avi", "avi", "huffyuv", "avi"),
    ("a.mov", "mov", "dnxhd", "mp4"),
    ("a.mov", "mov", "qtrle", "mp4"),
]
USUAL = 6  # of these; the others in `make test-long`
SIZES = {"dvvideo": DV_SIZE, "h263": (176, 144), "dnxhd": (1280, 720)}
FORMATS = {"huffyuv": "yuv422p", "dnxhd": "yuv422p", "qtrle": "rgb24"}
OPTIONS = {"dnxhd": {"profile": "dnxhr_sq"}, "libsvtav1": {"preset": "12", "crf": "20"}}


@pytest.mark.parametrize(
    ("name", "muxer", "codec", "kind"),
    [pytest.param(*row, marks=() if i < USUAL else pytest.mark.long) for i, row in enumerate(ROWS)],
)
def test_what_is_taken_is_read(tmp_path: Path, name: str, muxer: str, codec: str, kind: str) -> None:
    """Every picture, in order, a frame apart, from the container's start."""
    pictures = scene(COUNT, SIZES.get(codec, (192, 144)), speed=6)
    options = OPTIONS.get(codec, {})
    muxing = {"mpegts_m2ts_mode": "1"} if name == "a.m2ts" else {}
    path = write(
        tmp_path / name,
        pictures,
        codec,
        format=muxer,
        pix_fmt=FORMATS.get(codec),
        options=options,
        container_options=muxing,
    )
    found = kind_of(path.read_bytes()[:HEAD_BYTES])
    assert found is not None
    assert (found.name, found.reading) == (kind, "video")
    source = VideoSource(path, LIMITS)
    frames = list(source.frames())
    assert len(frames) == COUNT
    np.testing.assert_allclose(times(frames), np.arange(COUNT) / RATE, atol=2e-3)
    assert source.info.frame_count == COUNT
    assert source.warnings == []
    if codec not in {"dvvideo", "h263"}:  # whose pixels are not square
        for image, given in zip(images(frames), pictures, strict=True):
            assert difference(image, given) < CLOSE


@pytest.mark.parametrize("muxer", ["nut", "ivf", "mjpeg", "yuv4mpegpipe", "apng", "swf", "rawvideo"])
def test_other_readers_are_not_reached(tmp_path: Path, muxer: str) -> None:
    """Formats that FFmpeg can read but no camera writes are refused under any name."""
    codec = {"ivf": "libvpx", "mjpeg": "mjpeg", "apng": "apng", "swf": "flv"}.get(muxer, "rawvideo")
    pix_fmt = {"apng": "rgb24"}.get(codec)
    path = write(tmp_path / "a.mp4", scene(3), codec, format=muxer, pix_fmt=pix_fmt)
    assert muxer not in ",".join(DEMUXERS).split(",")
    with pytest.raises(UndecodableInputError):
        VideoSource(path, LIMITS)
