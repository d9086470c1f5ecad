"""Scan whole frames with a network for boxes, scores and landmarks of all faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from worker.core.affine import reduced
from worker.core.devices import OutOfDeviceMemoryError
from worker.core.picture import Shown
from worker.core.records import Detections, Image
from worker.faces.networks import MULTIPLE
from worker.faces.networks.cells import Candidates
from worker.faces.running import Running

MAX_SIDE_PX = 640  # frames are reduced to this longer side
MOST_CANDIDATES = 1000  # limit in a frame, best first


class Scanner:
    """A network as a detector; consecutive frames of one size form a batch."""

    def __init__(self, running: Running, batch: int, max_side_px: int = MAX_SIDE_PX) -> None:
        self.name, self.batch = running.kind.name, batch
        self._running, self._max_side_px = running, max_side_px

    def detect(
        self, images: Sequence[Shown], min_score: float | None, *, frame_side_px: int | None = None
    ) -> list[Detections]:
        """See `Detector.detect`."""
        lowest = self._running.kind.min_score if min_score is None else min_score
        return [
            faces
            for group in _of_one_size(images, self.batch)
            for faces in self._detect(group, lowest, frame_side_px or max(group[0].shape))
        ]

    def _detect(self, group: Sequence[Shown], min_score: float, frame_side_px: int) -> list[Detections]:
        """Faces of frames of one size.  Raises: OutOfDeviceMemoryError if there is too little memory for one frame."""
        height, width = group[0].shape[:2]
        small_height, small_width = reduced_size(height, width, self._max_side_px / frame_side_px)
        back = np.array([width / small_width, height / small_height], np.float32)
        pixels = np.stack([_padded(reduced(image, small_height, small_width)) for image in group])
        try:
            found = faces_of(self._running, pixels, min_score)
        except OutOfDeviceMemoryError:
            if len(group) == 1:
                raise
            half = len(group) // 2
            return [
                faces for part in (group[:half], group[half:]) for faces in self._detect(part, min_score, frame_side_px)
            ]
        return [_scaled(faces, back) for faces in found]


def faces_of(running: Running, pixels: npt.NDArray[np.uint8], min_score: float) -> list[Detections]:
    """Faces of every picture of a batch (B, H, W, 3) uint8 RGB, best first, in pixels of the batch."""
    found = running.kind.decode(running.maps(pixels), min_score)
    return [_best_of_each(found, image, running.kind.nms_iou) for image in range(len(pixels))]


def reduced_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width at that scale, never enlarged, each at least 1."""
    scale = min(1.0, scale)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def _best_of_each(found: Candidates, image: int, nms_iou: float) -> Detections:
    own = np.flatnonzero(found.image == image)
    own = own[np.argsort(-found.scores[own], kind="stable")][:MOST_CANDIDATES]
    if not len(own):
        return Detections.none()
    boxes, scores = found.boxes[own], found.scores[own]
    corners = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).astype(np.float64)
    kept = own[np.asarray(cv2.dnn.NMSBoxes(corners.tolist(), scores.tolist(), 0.0, nms_iou), np.intp)]
    return Detections(found.boxes[kept], found.scores[kept], found.landmarks[kept])


def _padded(image: Image) -> Image:
    """Pad with black at the bottom and right to multiples of `MULTIPLE`."""
    below, beside = (-side % MULTIPLE for side in image.shape[:2])
    if not below and not beside:
        return image
    return np.asarray(cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_CONSTANT), np.uint8)


def _of_one_size(images: Sequence[Shown], most: int) -> Iterator[list[Shown]]:
    group: list[Shown] = []
    for image in images:
        if group and (len(group) == most or image.shape != group[0].shape):
            yield group
            group = []
        group.append(image)
    if group:
        yield group


def _scaled(faces: Detections, back: npt.NDArray[np.float32]) -> Detections:
    return Detections(faces.boxes * np.tile(back, 2), faces.scores, faces.landmarks * back)
