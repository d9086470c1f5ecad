"""What a thumbnail tells of a frame: whether it starts a shot, and whether something new appears in it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from worker.core.picture import Shown, part, sampled
from worker.core.records import Detections, Floats

Thumbnail = npt.NDArray[np.uint8]  # (45, 80, 3)

SIZE = (80, 45)
# A cut: the thumbnail differs from the last one by this much (mean of 0..255), and by this many times more than frames
# of the shot usually do, so that a fast pan or a shaking hand is none.
CUT_DIFFERENCE = 22.0
CUT_RATIO = 4.0
CHANGE = 24  # of a cell's colour channel: more than noise and compression make
FEWEST_CELLS = 4  # that change where a face of 16 pixels appears, once the longer side is 640
MARGIN_CELLS = 4  # around them that are looked at, too
# Where the person of a known face moves, in widths of its box, beyond its sides, above and below.
BESIDE, ABOVE, BELOW = 1.0, 0.6, 3.0

_BESIDE = np.ones((3, 3), np.uint8)


def thumbnail(image: Shown) -> Thumbnail:
    """A thumbnail of a frame (H, W, 3) uint8; costs the same for every size of frame."""
    width, height = SIZE
    # Interpolation samples, and the area mean over four samples a cell takes most of the aliasing out.
    return np.asarray(cv2.resize(sampled(image, 2 * width, 2 * height), SIZE, interpolation=cv2.INTER_AREA), np.uint8)


class ShotCuts:
    """Finds cuts between consecutive frames."""

    def __init__(self) -> None:
        self._last: Thumbnail | None = None
        self._usual = 0.0

    def is_cut(self, small: Thumbnail) -> bool:
        """Whether a cut lies between the last frame given and this one."""
        last, self._last = self._last, small
        if last is None:
            return False
        difference = float(cv2.absdiff(small, last).mean())
        cut = difference > CUT_DIFFERENCE and difference > CUT_RATIO * self._usual
        if not cut:
            self._usual = 0.8 * self._usual + 0.2 * difference
        return cut


class Change:
    """What differs from a frame that was looked at.

    A cell has changed if its colour is none that the frame had there or beside: a shaking camera moves edges by less
    than a cell, a new face brings new colours.
    """

    def __init__(self, before: Thumbnail) -> None:
        self._low = cv2.erode(before, _BESIDE).astype(np.int16) - CHANGE
        self._high = cv2.dilate(before, _BESIDE).astype(np.int16) + CHANGE

    def cells(self, now: Thumbnail) -> npt.NDArray[np.bool_]:
        """(45, 80): the cells that have changed."""
        return np.asarray(((now < self._low) | (now > self._high)).any(axis=2), np.bool_)


@dataclass(frozen=True)
class Region:
    """A part of a frame: left, top, right and bottom in pixels; left and top are even."""

    left: int
    top: int
    right: int
    bottom: int
    is_whole: bool = False

    @staticmethod
    def whole(image: Shown) -> Region:
        """All of a frame."""
        return Region(0, 0, image.shape[1], image.shape[0], is_whole=True)

    def share(self, image: Shown) -> float:
        """Of the frame's area."""
        height, width = image.shape[:2]
        return (self.right - self.left) * (self.bottom - self.top) / (int(height) * int(width))

    def of(self, image: Shown) -> Shown:
        """What it shows."""
        return image if self.is_whole else part(image, self.top, self.bottom, self.left, self.right)

    def faces(self, found: Detections) -> Detections:
        """Faces that were found in the part, in pixels of the frame."""
        corner = np.array([self.left, self.top], np.float32)
        return Detections(found.boxes + np.tile(corner, 2), found.scores, found.landmarks + corner)


def beyond_faces(cells: npt.NDArray[np.bool_], boxes: Floats, image: Shown) -> Region | None:
    """The part of a frame that holds the cells which lie where no person of a known face moves; None if there are few.

    boxes: (N, 4) xyxy in pixels of the frame.
    """
    open_ = cells.copy()
    columns, rows = SIZE
    height, width = image.shape[:2]
    for left, top, right, bottom in boxes.tolist():
        size = right - left
        x0, x1 = (left - BESIDE * size) / width * columns, (right + BESIDE * size) / width * columns
        y0, y1 = (top - ABOVE * size) / height * rows, (bottom + BELOW * size) / height * rows
        open_[max(int(y0), 0) : max(int(np.ceil(y1)), 0), max(int(x0), 0) : max(int(np.ceil(x1)), 0)] = False
    ys, xs = np.nonzero(open_)
    if len(ys) < FEWEST_CELLS:
        return None
    x0, x1 = max(int(xs.min()) - MARGIN_CELLS, 0), min(int(xs.max()) + 1 + MARGIN_CELLS, columns)
    y0, y1 = max(int(ys.min()) - MARGIN_CELLS, 0), min(int(ys.max()) + 1 + MARGIN_CELLS, rows)
    left, top = x0 * width // columns // 2 * 2, y0 * height // rows // 2 * 2  # where a sample of chroma begins
    return Region(left, top, -(-x1 * width // columns), -(-y1 * height // rows))
