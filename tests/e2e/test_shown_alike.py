"""The same film, stored in ways that players undo: the same faces in the same places, with the same labels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from tests.worker.decode.scenes import fields_first, write
from worker.core.records import Image

if TYPE_CHECKING:
    from tests.service import Api, Clips

pytestmark = pytest.mark.e2e

COUNT, SIZE = 24, (384, 288)
ONE = 1 << 16
QUALITY = {"preset": "ultrafast", "crf": "6"}


def plain(folder: Path, pictures: list[Image]) -> Path:
    return write(folder / "plain.mp4", pictures, options=QUALITY)


def interlaced(folder: Path, pictures: list[Image]) -> Path:
    options = {"flags": "+ildct+ilme", "b": "16M", "maxrate": "20M", "bufsize": "16M"}
    return write(folder / "interlaced.ts", pictures, "mpeg2video", options=options, change=fields_first())


def mirrored(folder: Path, pictures: list[Image]) -> Path:
    stored = [np.ascontiguousarray(picture[:, ::-1]) for picture in pictures]
    matrix = [-ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30]
    prepare = lambda stream: stream.set_display_matrix(matrix)  # noqa: E731
    return write(folder / "mirrored.mp4", stored, options=QUALITY, prepare=prepare)


def upside_down(folder: Path, pictures: list[Image]) -> Path:
    stored = [np.ascontiguousarray(picture[::-1]) for picture in pictures]
    matrix = [ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30]
    prepare = lambda stream: stream.set_display_matrix(matrix)  # noqa: E731
    return write(folder / "upside_down.mp4", stored, options=QUALITY, prepare=prepare)


def narrow_pixels(folder: Path, pictures: list[Image]) -> Path:
    stored = [np.asarray(cv2.resize(picture, (SIZE[0] // 2, SIZE[1])), np.uint8) for picture in pictures]

    def prepare(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(2)

    return write(folder / "narrow.mp4", stored, options=QUALITY, prepare=prepare)


def large_depth(folder: Path, pictures: list[Image]) -> Path:
    return write(folder / "prores.mov", pictures, "prores_ks")


@pytest.mark.parametrize("store", [interlaced, mirrored, upside_down, narrow_pixels, large_depth])
def test_labels_are_those_of_the_plain_film(api: Api, clips: Clips, tmp_path: Path, store: Any) -> None:
    """A face in every frame, its box within a few pixels, and nine labels of ten the same."""
    pictures = [np.ascontiguousarray(picture[..., ::-1]) for picture in clips.pictures(COUNT, SIZE)]
    _, wanted = api.label(plain(tmp_path, pictures).read_bytes())
    job, found = api.label(store(tmp_path, pictures).read_bytes())
    assert (job["input"]["width"], job["input"]["height"]) == SIZE
    assert [len(frame["faces"]) for frame in found] == [len(frame["faces"]) for frame in wanted] == [1] * COUNT
    same = 0
    for one, other in zip(found, wanted, strict=True):
        (face,), (plain_face,) = one["faces"], other["faces"]
        np.testing.assert_allclose(face["bbox"], plain_face["bbox"], atol=10)
        same += face["label"] == plain_face["label"]
    assert same >= 0.9 * COUNT
