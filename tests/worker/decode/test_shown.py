"""The picture as a player shows it: turned, mirrored, in square pixels, each in its own size."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.worker.decode.scenes import difference, images, read, scene, write
from worker.core.records import Image
from worker.decode import DecodeLimits, LimitExceededError
from worker.decode.pictures import square_size
from worker.decode.video import VideoSource

LIMITS = DecodeLimits(2000, 1_000_000)
ONE, W = 1 << 16, 1 << 30
CLOSE = 4.0
# Display matrix (a, b, c, d) in 16.16, and what it does to a stored picture.
MATRICES: dict[str, tuple[tuple[int, int, int, int], Any]] = {
    "upright": ((1, 0, 0, 1), lambda p: p),
    "90": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "180": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "270": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    "hflip": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "vflip": ((1, 0, 0, -1), lambda p: p[::-1]),
    "transpose": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
    "antitranspose": ((0, -1, -1, 0), lambda p: np.rot90(p, 2).transpose(1, 0, 2)),
}


def matrix_of(a: float, b: float, c: float, d: float) -> list[int]:
    return [round(a * ONE), round(b * ONE), 0, round(c * ONE), round(d * ONE), 0, 0, 0, W]


@pytest.mark.parametrize("suffix", ["mp4", *(pytest.param(s, marks=pytest.mark.long) for s in ("mov", "mkv"))])
@pytest.mark.parametrize("name", MATRICES)
def test_turned_and_mirrored(tmp_path: Path, name: str, suffix: str) -> None:
    """Four turns, each also mirrored: pictures and claimed size are those that are shown."""
    entries, shown = MATRICES[name]
    pictures = scene(5)
    matrix = matrix_of(*entries)
    path = write(tmp_path / f"a.{suffix}", pictures, prepare=lambda stream: stream.set_display_matrix(matrix))
    source = VideoSource(path, LIMITS)
    for found, stored in zip(images(source.frames()), pictures, strict=True):
        assert difference(found, shown(stored)) < CLOSE
        assert found.shape[:2] == (source.info.height, source.info.width)


@pytest.mark.parametrize("degrees", [45, 20, 3])
def test_odd_angles_are_not_turned(tmp_path: Path, degrees: int) -> None:
    """As in browsers."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    pictures = scene(3)
    matrix = matrix_of(cos, sin, -sin, cos)
    path = write(tmp_path / "a.mp4", pictures, prepare=lambda stream: stream.set_display_matrix(matrix))
    for found, stored in zip(images(read(path)), pictures, strict=True):
        assert difference(found, stored) < CLOSE


@pytest.mark.parametrize(
    ("aspect", "stored", "shown"),
    [
        ("64/45", (210, 168), (299, 168)),
        ("4/3", (192, 144), (256, 144)),
        pytest.param("32/27", (192, 144), (228, 144), marks=pytest.mark.long),
        ("2/1", (96, 144), (192, 144)),
        ("1/2", (192, 72), (192, 144)),
    ],
)
def test_pixels_are_square(tmp_path: Path, aspect: str, stored: tuple[int, int], shown: tuple[int, int]) -> None:
    """Pictures of pixels that are not square are as wide or high as a player shows them."""
    pictures = scene(3, stored)

    def prepare(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)

    source = VideoSource(write(tmp_path / "a.mp4", pictures, prepare=prepare), LIMITS)
    assert (source.info.width, source.info.height) == shown
    for found, given in zip(images(source.frames()), pictures, strict=True):
        assert difference(found, np.asarray(cv2.resize(given, shown), np.uint8)) < CLOSE


def test_an_aspect_that_cannot_be() -> None:
    """A pixel a thousand times as wide as high is a mistake; one a little wider is not."""
    assert square_size(640, 360, Fraction(1000)) == square_size(640, 360, Fraction(1, 1000)) == (640, 360)
    assert square_size(640, 360, None) == square_size(640, 360, Fraction(0)) == (640, 360)
    assert square_size(720, 576, Fraction(16, 15)) == (768, 576)


def test_the_limit_holds_for_square_pixels(tmp_path: Path) -> None:
    """A picture that is stored small and shown large counts as large."""

    def prepare(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(4)

    path = write(tmp_path / "a.mp4", scene(2), prepare=prepare)
    with pytest.raises(LimitExceededError, match="768 x 144"):
        read(path, limits=DecodeLimits(10, 192 * 144 * 2))


def joined(folder: Path, parts: list[list[Image]]) -> Path:
    """Recordings of several sizes, one behind the other."""
    path = folder / "joined.ts"
    data = b""
    for i, part in enumerate(parts):
        offset = {"output_ts_offset": str(sum(map(len, parts[:i])) / 25)}
        options = {"bf": "0", "preset": "ultrafast"}
        data += write(folder / f"{i}.ts", part, options=options, container_options=offset).read_bytes()
    path.write_bytes(data)
    return path


def test_each_picture_in_its_own_size(tmp_path: Path) -> None:
    """A video call that changes its size, or is turned, gives every picture in its own shape."""
    parts = [scene(10), scene(10, (96, 160)), scene(10, (192, 144))]
    source = VideoSource(joined(tmp_path, parts), LIMITS)
    found = images(source.frames())
    assert [image.shape[1::-1] for image in found] == [*[(192, 144)] * 10, *[(96, 160)] * 10, *[(192, 144)] * 10]
    for image, given in zip(found, chain.from_iterable(parts), strict=True):
        assert difference(image, given) < CLOSE
    assert (source.info.width, source.info.height) == (192, 144)


def test_a_picture_that_grows_past_the_limit(tmp_path: Path) -> None:
    """A later picture above `max_pixels` ends the job."""
    path = joined(tmp_path, [scene(5), scene(5, (320, 240))])
    with pytest.raises(LimitExceededError, match="320 x 240"):
        read(path, limits=DecodeLimits(100, 192 * 144))
