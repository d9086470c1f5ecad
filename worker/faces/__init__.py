"""Face detectors, and which frames they look at.

A stage of the pipeline.  A detector takes frames in batches; `keyframes` asks it for every few frames and interpolates
between.  Detectors: `mien` (ours, in batches, five landmarks), `yunet` (an ONNX file that the operator supplies, five
landmarks), `cascade` (in OpenCV's wheel, boxes only).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from worker.core.records import Detections, Image


class Detector(Protocol):
    """A face detector, loaded once and used from one thread at a time.

    name: what results call it.  batch: how many frames it likes at once.
    """

    name: str
    batch: int

    def detect(self, images: Sequence[Image], min_score: float | None) -> list[Detections]:
        """Faces of every image (H, W, 3) uint8 RGB; images may differ in size.  min_score None: its own default."""
