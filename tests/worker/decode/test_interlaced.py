"""Interlaced video: one whole picture a frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.worker.decode.scenes import DV_SIZE, difference, fields_first, images, read, scene, write
from worker.core.records import Image

INTERLACED = "+ildct+ilme"
# Codec, container, options.
FORMATS = [
    ("mpeg2video", "a.ts", {"flags": INTERLACED}),
    ("libx264", "a.mp4", {"x264-params": "tff=1"}),
    ("prores_ks", "a.mov", {"flags": INTERLACED}),
    ("dvvideo", "a.avi", {}),
    ("ffv1", "a.mkv", {"flags": INTERLACED}),
]
USUAL = [("mpeg2video", "a.ts", {"flags": INTERLACED}), ("libx264", "a.mp4", {"x264-params": "tff=1"})]
CLOSE = 6.0  # mean difference, of 255, of a deinterlaced picture from the progressive one
SPEED = 6.0


def woven(pictures: list[Image]) -> list[Image]:
    """Two pictures a frame, their lines by turns: what a camera of 50 fields a second records."""
    frames = []
    for first, second in zip(pictures[::2], pictures[1::2], strict=True):
        frame = first.copy()
        frame[1::2] = second[1::2]
        frames.append(frame)
    return frames


@pytest.mark.parametrize(
    ("codec", "name", "options"),
    [pytest.param(*row, marks=() if row in USUAL else pytest.mark.long) for row in FORMATS],
)
def test_two_fields_become_one_picture(tmp_path: Path, codec: str, name: str, options: dict[str, str]) -> None:
    """Each frame is the picture of its first field, not a comb of two; none is missing, none is black."""
    size = DV_SIZE if codec == "dvvideo" else (192, 144)
    moments = scene(24, size, SPEED)
    if codec == "dvvideo":  # whose lower field comes first
        combs = woven([moment for pair in zip(moments[1::2], moments[::2], strict=True) for moment in pair])
    else:
        combs = woven(moments)
    first = "bff" if codec == "dvvideo" else "tff"
    path = write(tmp_path / name, combs, codec, options=options, change=fields_first(first))
    found = images(read(path))
    assert len(found) == 12
    for i, stored in enumerate(found):
        image = np.asarray(cv2.resize(stored, size), np.uint8)  # DV's pixels are not square
        assert difference(image, moments[2 * i]) < 0.75 * difference(combs[i], moments[2 * i]), i
        assert difference(image, moments[2 * i]) < difference(image, moments[2 * i + 1]), i


def test_what_was_progressive_stays_sharp(tmp_path: Path) -> None:
    """Film that is only coded as fields keeps its pictures."""
    pictures = scene(12)
    path = write(tmp_path / "a.ts", pictures, "mpeg2video", options={"flags": INTERLACED}, change=fields_first())
    for found, given in zip(images(read(path)), pictures, strict=True):
        assert difference(found, given) < CLOSE


def test_from_the_middle_on(tmp_path: Path) -> None:
    """A recording that turns interlaced half way has its pictures in order, none of them twice.

    FFmpeg's own MPEG-2 decoder loses the one before the change.
    """
    pictures = scene(24, speed=SPEED)
    first = write(tmp_path / "p.ts", pictures[:12], "mpeg2video")
    second = write(
        tmp_path / "i.ts",
        pictures[12:],
        "mpeg2video",
        options={"flags": INTERLACED},
        change=fields_first(),
        container_options={"output_ts_offset": "0.48"},
    )
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    found = images(read(joined))
    shown = [min(range(24), key=lambda i: difference(image, pictures[i])) for image in found]
    assert shown == [*range(11), *range(12, 24)]
    assert max(difference(image, pictures[i]) for image, i in zip(found, shown, strict=True)) < CLOSE
