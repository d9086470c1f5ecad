"""Pictures with faces whose places are known, and clips that are not part of the repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from worker.core.affine import MIRRORED, moved, similarity, warped
from worker.core.records import DecodedFrame, Image
from worker.decode import DecodeLimits
from worker.decode.video import VideoSource

# The astronaut's face in her portrait, 512 x 512 pixels: box, eyes, nose and mouth corners, read off by eye.
FACE = (178.0, 61.0, 269.0, 174.0)
LANDMARKS = np.array([(202.5, 102.0), (245.0, 104.0), (225.0, 127.0), (204.5, 142.5), (242.0, 141.5)], np.float32)
SHARED = Path(__file__).resolve().parents[4] / "shared"


def portrait() -> Image:
    return np.asarray(data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]  # it has no annotations


def scaled(image: Image, scale: float) -> Image:
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def turned(degrees: float, *, mirrored: bool = False) -> tuple[Image, np.ndarray]:
    """The portrait on (600, 600) with the face in the middle, and the landmarks (5, 2) there."""
    middle = ((FACE[0] + FACE[2]) / 2, (FACE[1] + FACE[3]) / 2)
    how = similarity(middle, (300, 300), (-1 if mirrored else 1, 1), degrees)
    marks = moved(LANDMARKS, how)
    return warped(portrait(), how, 600, 600, cv2.BORDER_REPLICATE), marks[list(MIRRORED)] if mirrored else marks


def shared(path: str) -> Path:
    """A file that is not part of the repository; the test skips where it is absent."""
    if not (SHARED / path).is_file():
        pytest.skip(f"no {path} beside the checkout")
    return SHARED / path


def clip(name: str) -> Iterator[DecodedFrame]:
    """Frames of a real clip; the test skips where it is absent."""
    return VideoSource(shared(f"videos/{name}"), DecodeLimits(10_000, 10_000_000)).frames()


def shown(name: str, every: int) -> list[Image]:
    """Every so many pictures of a real clip."""
    return [frame.image for frame in list(clip(name))[::every] if frame.image is not None]
