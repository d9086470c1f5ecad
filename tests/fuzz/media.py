"""Videos and photographs to be edited, and how the decoder, in its own process, may answer to what becomes of them."""

from __future__ import annotations

import io
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image

from tests.worker.decode.heif import photograph
from tests.worker.decode.scenes import fields_first, scene, write
from worker.decode import DecodeLimits, DecoderLostError, LimitExceededError, Sampling, UndecodableInputError
from worker.decode.isolated import IsolatedSource
from worker.decode.messages import Input

LIMITS = DecodeLimits(max_frames=50, max_pixels=100_000, max_s=10, max_bytes=2**30)
SIZE = (64, 48)
# Suffix, FFmpeg's muxer, codec, its options.
CLIPS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("mp4", "libx264", {"bf": "2"}),
    ("matroska", "libvpx", {}),
    ("mpegts", "mpeg2video", {"flags": "+ildct+ilme"}),
    ("avi", "mjpeg", {}),
    ("flv", "flv", {}),
    ("mpeg", "mpeg1video", {}),
    ("asf", "wmv2", {}),
    ("mov", "prores_ks", {}),
    ("gif", "gif", {}),
)


@cache
def videos() -> list[bytes]:
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for muxer, codec, options in CLIPS:
            interlaced = fields_first() if "flags" in options else lambda frame: frame
            path = Path(folder) / muxer
            write(path, scene(6, SIZE), codec, format=muxer, options=options, change=interlaced)
            made.append(path.read_bytes())
    return made


@cache
def photographs() -> list[bytes]:
    (picture,) = scene(1, (128, 96))
    made = [photograph(picture, coding, grid, 1, 0) for coding in ("heic", "avif") for grid in ((1, 1), (2, 2))]
    first, *others = [PIL.Image.fromarray(np.ascontiguousarray(frame)) for frame in scene(4, SIZE)]
    for suffix in ("webp", "png", "avif"):
        file = io.BytesIO()
        first.save(file, suffix, save_all=True, append_images=others, duration=40)
        made.append(file.getvalue())
    return made


def check_video(data: bytes) -> None:
    """A video yields frames in order, with non-decreasing times and within limits, or a clear error."""
    _check(data, "video")


def check_photograph(data: bytes) -> None:
    """So does an image."""
    _check(data, "image")


def _check(data: bytes, reading: str) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        last_s = 0.0
        try:
            source = IsolatedSource(Input(file.name, reading, 25, Sampling()), LIMITS)
        except (UndecodableInputError, LimitExceededError, DecoderLostError):
            return
        try:
            for index, frame in enumerate(source.frames()):
                assert frame.frame_index == index
                assert frame.timestamp_s >= last_s
                last_s = frame.timestamp_s
                assert frame.image is None or frame.image.shape[0] * frame.image.shape[1] <= LIMITS.max_pixels
        except (UndecodableInputError, LimitExceededError, DecoderLostError):
            return
        finally:
            source.close()
