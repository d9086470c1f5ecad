"""HEIC, AVIF and images that move: whole, the right way up, with their delays."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from app.contract.media import HEAD_BYTES, kind_of
from tests.worker.decode.heif import photograph
from tests.worker.decode.scenes import difference, images, scene, times
from worker.core.records import Image
from worker.decode import DecodeLimits, LimitExceededError
from worker.decode.images import ImagesSource

LIMITS = DecodeLimits(100, 1_000_000)
SIZE = (256, 192)
CLOSE = 5.0


def only(path: Path, data: bytes, kind: str = "image", limits: DecodeLimits = LIMITS) -> ImagesSource:
    path.write_bytes(data)
    return ImagesSource(path, kind, 25, limits)


@pytest.mark.parametrize("coding", ["heic", "avif"])
@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (3, 4)])
def test_a_photograph_is_whole(tmp_path: Path, coding: str, grid: tuple[int, int]) -> None:
    """A grid of tiles is one picture, never its first tile; first bytes tell it from an mp4."""
    (given,) = scene(1, SIZE)
    data = photograph(given, coding, grid)
    kind = kind_of(data[:HEAD_BYTES])
    assert kind is not None
    assert (kind.name, kind.is_image) == (coding, True)
    source = only(tmp_path / "a", data)
    (found,) = images(source.frames())
    assert (source.info.width, source.info.height) == SIZE
    assert difference(found, given) < CLOSE


def turned(picture: Image, turns: int, mirror: int | None) -> Image:
    picture = np.rot90(picture, turns)
    return picture if mirror is None else picture[::-1] if mirror == 0 else picture[:, ::-1]


@pytest.mark.parametrize("coding", ["heic", "avif"])
@pytest.mark.parametrize(("turns", "mirror"), [(1, None), (2, None), (3, None), (0, 0), (0, 1), (1, 0)])
def test_a_photograph_is_upright(tmp_path: Path, coding: str, turns: int, mirror: int | None) -> None:
    """Upright, by the file's orientation."""
    (given,) = scene(1, SIZE)
    (found,) = images(only(tmp_path / "a", photograph(given, coding, (2, 2), turns, mirror)).frames())
    assert difference(found, turned(given, turns, mirror)) < CLOSE


def test_photographs_in_an_archive(tmp_path: Path) -> None:
    """A folder of them is a clip like one of JPEGs; one that is damaged keeps its place."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    given = scene(3, SIZE)
    for i, picture in enumerate(given):
        data = photograph(picture, "avif" if i else "heic")
        (folder / f"{i}.heic").write_bytes(data if i != 1 else data[: len(data) // 2])
    source = ImagesSource(folder, "folder", 10, LIMITS)
    frames = list(source.frames())
    assert [frame.image is None for frame in frames] == [False, True, False]
    assert source.warnings == ["1 images could not be decoded and have no faces: frames 1"]


def test_a_photograph_that_is_too_large(tmp_path: Path) -> None:
    """Its size is known before it is decoded."""
    with pytest.raises(LimitExceededError, match="256 x 192"):
        only(tmp_path / "a", photograph(scene(1, SIZE)[0]), limits=DecodeLimits(10, 256 * 192 - 1))


DELAYS_MS = [33, 500, 40, 0, 33, 33, 200, 33]


def moving(pictures: list[Image], suffix: str, delays_ms: list[int]) -> bytes:
    file = io.BytesIO()
    first, *others = [PIL.Image.fromarray(picture) for picture in pictures]
    more: dict[str, Any] = {"lossless": True} if suffix == "webp" else {"quality": 95} if suffix == "avif" else {}
    first.save(file, suffix, save_all=True, append_images=others, duration=delays_ms, **more)
    return file.getvalue()


@pytest.mark.parametrize("suffix", ["webp", "png", "avif"])
def test_images_that_move(tmp_path: Path, suffix: str) -> None:
    """Every picture has its record at its own time; a delay of nothing counts as in browsers."""
    given = scene(len(DELAYS_MS), (96, 64), speed=6)
    data = moving(given, suffix, DELAYS_MS)
    assert kind_of(data[:HEAD_BYTES]) is not None
    source = only(tmp_path / "a", data)
    frames = list(source.frames())
    shown = [100 if ms < 10 else ms for ms in DELAYS_MS]
    assert times(frames) == pytest.approx(np.concatenate([[0], np.cumsum(shown[:-1])]) / 1000, abs=2e-3)
    for found, picture in zip(images(frames), given, strict=True):
        assert difference(found, picture) < CLOSE
    assert (source.info.frame_count, source.decoded, source.warnings) == (8, 8, [])


def test_an_image_that_moves_among_others(tmp_path: Path) -> None:
    """In an archive of several it is one picture, with a warning."""
    folder = tmp_path / "images"
    folder.mkdir()
    given = scene(3, (96, 64))
    for i in range(2):
        (folder / f"{i}.webp").write_bytes(moving(given, "webp", [33] * 3))
    source = ImagesSource(folder, "folder", 10, LIMITS)
    assert len(list(source.frames())) == 2
    assert source.warnings == ["2 images move; of each the first picture is labelled"]


def test_an_image_that_moves_too_long(tmp_path: Path) -> None:
    """Its pictures count against the limit of frames, before they are decoded."""
    with pytest.raises(LimitExceededError, match="more than 5 frames"):
        only(tmp_path / "a", moving(scene(6, (96, 64)), "webp", [33] * 6), limits=DecodeLimits(5, 100_000))


def test_jpeg_xl_is_refused() -> None:
    """No well-kept library under a fitting licence reads it, so no kind has its first bytes."""
    assert kind_of(b"\xff\x0a" + bytes(500)) is None
    assert kind_of(b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a" + bytes(500)) is None
