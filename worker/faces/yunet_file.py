"""YuNet's ONNX file through OpenCV: boxes, scores and five landmarks, at a reduced size.

Source: Wu, Peng, Yu 2023, YuNet: A Tiny Millisecond-level Face Detector; model file from opencv_zoo (MIT).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from worker.core.picture import Shown, whole
from worker.core.records import Detections
from worker.faces import DetectorError
from worker.faces.scanning import reduced_size

MAX_SIDE_PX = 640  # the longer side is reduced to this; faces below about 10 px are then lost
MIN_SCORE = 0.7
NMS_IOU = 0.3
TOP_K = 5000


class YuNet:
    """YuNet on the CPU, one frame at a time."""

    name = "yunet"
    batch = 1

    def __init__(self, model: Path, max_side_px: int = MAX_SIDE_PX) -> None:
        """Raises: DetectorError if the file is missing or is not a YuNet model."""
        if not model.is_file():
            raise DetectorError(f"no face detector model at {model}")
        try:
            self._net = cv2.FaceDetectorYN.create(str(model), "", (320, 320), MIN_SCORE, NMS_IOU, TOP_K)
            self._net.detect(np.zeros((320, 320, 3), np.uint8))
        except cv2.error:
            raise DetectorError(f"{model} is not a YuNet model that OpenCV {cv2.__version__} can run") from None
        self._max_side_px = max_side_px
        # A second thread gains a tenth (measured) and takes a whole core from decoding and the ensemble.
        cv2.setNumThreads(1)

    def detect(
        self, images: Sequence[Shown], min_score: float | None, *, frame_side_px: int | None = None
    ) -> list[Detections]:
        """See `Detector.detect`."""
        self._net.setScoreThreshold(MIN_SCORE if min_score is None else min_score)
        return [self._detect_one(image, frame_side_px or max(image.shape)) for image in images]

    def _detect_one(self, image: Shown, frame_side_px: int) -> Detections:
        height, width = image.shape[:2]
        small_height, small_width = reduced_size(height, width, self._max_side_px / frame_side_px)
        bgr = cv2.cvtColor(whole(image), cv2.COLOR_RGB2BGR)
        if (small_height, small_width) != (height, width):
            bgr = cv2.resize(bgr, (small_width, small_height), interpolation=cv2.INTER_LINEAR)
        self._net.setInputSize((small_width, small_height))
        _, rows = self._net.detect(bgr)
        if rows is None:
            return Detections.none()
        rows = rows.astype(np.float32)  # (N, 15): x, y, width, height, five landmarks, score
        back = np.array([width / small_width, height / small_height], np.float32)
        low = rows[:, :2] * back
        boxes = np.hstack([low, low + rows[:, 2:4] * back])
        return Detections(boxes, rows[:, 14].clip(0, 1), rows[:, 4:14].reshape(-1, 5, 2) * back)
