"""Finding faces: networks that scan frames, a look at single faces, and the following of faces from frame to frame.

A stage of the pipeline: `following.Following` runs a `finding.Finder` over a stream of frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from worker.core.picture import Shown
from worker.core.records import Detections


class DetectorError(Exception):
    """The detector's model cannot be used; the message is one sentence that names the file."""


class Detector(Protocol):
    """A face detector, loaded once and used from one thread at a time.

    name: what results call it.  batch: how many frames it likes at once.
    """

    name: str
    batch: int

    def detect(
        self, images: Sequence[Shown], min_score: float | None, *, frame_side_px: int | None = None
    ) -> list[Detections]:
        """Faces of every image (H, W, 3) uint8 RGB; images may differ in size.  min_score None: its own default.

        frame_side_px: the longer side of the frame that the images are parts of, so that a part is scanned in the size
        that it has in the frame; None where they are frames.
        """
