"""OpenCV's frontal-face cascade: part of the wheel, needs no model file, finds faces that look into the camera.

Source: Lienhart, Kuranov, Pisarevsky 2003, Empirical Analysis of Detection Cascades of Boosted Classifiers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from worker.core.picture import Shown, whole
from worker.core.records import Detections
from worker.faces.looking import upright_landmarks

MAX_SIDE_PX = 640
SCALE_STEP = 1.1
MIN_NEIGHBOURS = 5
MIN_SIDE_PX = 24  # in the reduced image: the size the cascade was trained at
MIN_SCORE = 0.5
# 1 - exp(-margin / MARGIN_SCALE) maps the last stage's margin to 0..1; a weak detection has about 0.5.
MARGIN_SCALE = 2.0


class Cascade:
    """The cascade on the CPU, one frame at a time; it sets landmarks of an average upright face."""

    name = "cascade"
    batch = 1

    def __init__(self) -> None:
        folder = Path(cv2.__file__).parent / "data"  # in the wheel
        self._cascade = cv2.CascadeClassifier(str(folder / "haarcascade_frontalface_default.xml"))

    def detect(
        self, images: Sequence[Shown], min_score: float | None, *, frame_side_px: int | None = None
    ) -> list[Detections]:
        """See `Detector.detect`."""
        lowest = MIN_SCORE if min_score is None else min_score
        return [self._detect_one(image, lowest, frame_side_px or max(image.shape)) for image in images]

    def _detect_one(self, image: Shown, min_score: float, frame_side_px: int) -> Detections:
        grey = cv2.cvtColor(whole(image), cv2.COLOR_RGB2GRAY)
        scale = min(1.0, MAX_SIDE_PX / frame_side_px)
        if scale < 1:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found, _, margins = self._cascade.detectMultiScale3(
            cv2.equalizeHist(grey),
            scaleFactor=SCALE_STEP,
            minNeighbors=MIN_NEIGHBOURS,
            minSize=(MIN_SIDE_PX, MIN_SIDE_PX),
            outputRejectLevels=True,
        )
        if not len(found):
            return Detections.none()
        low_size = np.asarray(found, np.float32) / scale  # (N, 4): x, y, width, height
        boxes = np.hstack([low_size[:, :2], low_size[:, :2] + low_size[:, 2:]])
        scores = (1 - np.exp(-np.maximum(np.asarray(margins, np.float32).reshape(-1), 0) / MARGIN_SCALE)).clip(0, 1)
        certain = np.flatnonzero(scores >= min_score)
        boxes = boxes.astype(np.float32)
        return Detections(boxes, np.asarray(scores, np.float32), upright_landmarks(boxes)).take(certain)
