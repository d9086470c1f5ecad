"""Face detection: scanners find faces in frames, a look refines single faces, following carries them between frames.

A stage of the pipeline: `following.Following` runs a `finding.Finder` over a stream of frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from worker.core.picture import Shown
from worker.core.records import Detections


class DetectorError(Exception):
    """The detector's model is unusable; the message is one sentence that names the file."""


class Detector(Protocol):
    """A face detector, loaded once and used from one thread at a time.

    name: its name in results.  batch: the preferred number of frames in a call.
    """

    name: str
    batch: int

    def detect(
        self, images: Sequence[Shown], min_score: float | None, *, frame_side_px: int | None = None
    ) -> list[Detections]:
        """Faces of every image (H, W, 3) uint8 RGB; sizes may differ.  min_score: in 0..1, None for its default.

        frame_side_px: if the images are parts of a frame, the longer side of that frame, so that a part is scanned at
        the frame's scale; None if they are frames.
        """
