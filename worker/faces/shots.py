"""Shot cuts and changes of a frame, detected on thumbnails."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from worker.core.picture import Shown, part, sampled
from worker.core.records import Detections, Floats

Thumbnail = npt.NDArray[np.uint8]  # (45, 80, 3)

SIZE = (80, 45)
# A cut: the mean difference from the last thumbnail, in 0..255, exceeds CUT_DIFFERENCE and CUT_RATIO times its usual
# value in the shot, so that a fast pan or a shaking hand is no cut.
CUT_DIFFERENCE = 22.0
CUT_RATIO = 4.0
CHANGE = 24  # minimum change of a cell's colour channel, above noise and compression
FEWEST_CELLS = 4  # cells that change when a face of 16 pixels appears, if the longer side is 640
MARGIN_CELLS = 4  # around changed cells, also scanned
# The area where the person of a known face moves, in widths of its box: at each side, above and below.
BESIDE, ABOVE, BELOW = 1.0, 0.6, 3.0

_BESIDE = np.ones((3, 3), np.uint8)


def thumbnail(image: Shown) -> Thumbnail:
    """A thumbnail of a frame (H, W, 3) uint8; the cost does not depend on the frame's size."""
    width, height = SIZE
    # Bilinear sampling, then a mean over four samples for each cell, which removes most of the aliasing.
    return np.asarray(cv2.resize(sampled(image, 2 * width, 2 * height), SIZE, interpolation=cv2.INTER_AREA), np.uint8)


class ShotCuts:
    """Finds cuts between consecutive frames."""

    def __init__(self) -> None:
        self._last: Thumbnail | None = None
        self._usual = 0.0

    def is_cut(self, small: Thumbnail) -> bool:
        """Whether a cut lies between the previous call's frame and this one."""
        last, self._last = self._last, small
        if last is None:
            return False
        difference = float(cv2.absdiff(small, last).mean())
        cut = difference > CUT_DIFFERENCE and difference > CUT_RATIO * self._usual
        if not cut:
            self._usual = 0.8 * self._usual + 0.2 * difference
        return cut


class Change:
    """Changes since a reference frame.

    A cell has changed if its colour lies outside the reference's range in the 3x3 cells around it: a shaking camera
    moves edges by less than a cell, a new face brings new colours.
    """

    def __init__(self, before: Thumbnail) -> None:
        self._low = cv2.erode(before, _BESIDE).astype(np.int16) - CHANGE
        self._high = cv2.dilate(before, _BESIDE).astype(np.int16) + CHANGE

    def cells(self, now: Thumbnail) -> npt.NDArray[np.bool_]:
        """(45, 80) mask of the changed cells."""
        return np.asarray(((now < self._low) | (now > self._high)).any(axis=2), np.bool_)


@dataclass(frozen=True)
class Region:
    """A part of a frame in pixels; left and top are even."""

    left: int
    top: int
    right: int
    bottom: int
    is_whole: bool = False

    @staticmethod
    def whole(image: Shown) -> Region:
        """The region of a whole frame."""
        return Region(0, 0, image.shape[1], image.shape[0], is_whole=True)

    def share(self, image: Shown) -> float:
        """The region's share of the frame's area, in 0..1."""
        height, width = image.shape[:2]
        return (self.right - self.left) * (self.bottom - self.top) / (int(height) * int(width))

    def of(self, image: Shown) -> Shown:
        """The region's part of the frame."""
        return image if self.is_whole else part(image, self.top, self.bottom, self.left, self.right)

    def faces(self, found: Detections) -> Detections:
        """Move faces from pixels of the part to pixels of the frame."""
        corner = np.array([self.left, self.top], np.float32)
        return Detections(found.boxes + np.tile(corner, 2), found.scores, found.landmarks + corner)


def beyond_faces(cells: npt.NDArray[np.bool_], boxes: Floats, image: Shown) -> Region | None:
    """The region around the changed cells outside the areas where known people move; None if there are too few.

    cells: (45, 80) mask.  boxes: (N, 4) xyxy of the known faces, in pixels of the frame.
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
    left, top = x0 * width // columns // 2 * 2, y0 * height // rows // 2 * 2  # aligned with chroma samples
    return Region(left, top, -(-x1 * width // columns), -(-y1 * height // rows))
