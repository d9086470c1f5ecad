"""Hides faces in pictures, for videos without recognisable faces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import cv2
import numpy as np

from worker.core.records import DecodedFrame, Floats, Image
from worker.inference.hiding import FrameFaces

Hiding = Literal["blur", "pixelate"]

MARGIN = 0.3  # margin at each side of a face's box, as a share of its longer side
# Cells along the longer side of a hidden area, each replaced by its mean colour.  Only the means remain of the face; a
# blur interpolates them, and needs fewer cells to be unrecognisable.
CELLS: dict[Hiding, int] = {"blur": 3, "pixelate": 4}
JOINED: dict[Hiding, int] = {"blur": cv2.INTER_LINEAR, "pixelate": cv2.INTER_NEAREST}


class OtherFramesError(Exception):
    """The faces belong to other frames than the rendered ones."""


def hidden(
    source: Iterable[DecodedFrame], faces: Iterable[FrameFaces] | None, how: Hiding
) -> Iterator[tuple[float, Image]]:
    """Every readable frame at its time, with its faces hidden; the whole picture is hidden if `faces` is None.

    faces: of the same frames.  Raises: OtherFramesError.
    """
    if faces is None:
        for frame in source:
            if frame.image is not None:
                height, width = frame.image.shape[:2]
                yield frame.timestamp_s, hide(frame.image, np.array([[0, 0, width, height]], np.float32), how)
        return
    for frame, found in zip(source, faces, strict=True):
        if frame.frame_index != found.frame_index:
            raise OtherFramesError(f"frame {frame.frame_index}, faces of {found.frame_index}")
        if frame.image is not None:
            yield frame.timestamp_s, hide(frame.image, found.boxes, how)


def hide(image: Image, boxes: Floats, how: Hiding) -> Image:
    """A copy of the image (H, W, 3) uint8 RGB with the boxes (N, 4) xyxy and their margins hidden."""
    picture = image.copy()
    height, width = picture.shape[:2]
    margins = MARGIN * (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True, initial=0)
    edges = np.hstack([np.floor(boxes[:, :2] - margins), np.ceil(boxes[:, 2:] + margins)])
    for left, top, right, bottom in edges.clip(0, (width, height, width, height)).astype(int):
        part = picture[top:bottom, left:right]
        if not part.size:
            continue
        cell = max(part.shape[:2]) / CELLS[how]
        few = (max(round(part.shape[1] / cell), 1), max(round(part.shape[0] / cell), 1))
        means = cv2.resize(part, few, interpolation=cv2.INTER_AREA)
        part[:] = cv2.resize(means, (part.shape[1], part.shape[0]), interpolation=JOINED[how])
    return picture
