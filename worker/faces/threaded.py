"""A detector all of whose work is done on one thread of its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from worker.core.records import Detections, Image
from worker.faces import Detector


class Threaded:
    """A detector on a GPU.  cuDNN keeps its plans by thread: each job's own thread would make all of them anew."""

    def __init__(self, detector: Detector) -> None:
        self.name, self.batch = detector.name, detector.batch
        self._detector = detector
        self._thread = ThreadPoolExecutor(1, "detector")  # ends with this object

    def detect(self, images: Sequence[Image], min_score: float | None) -> list[Detections]:
        """See `Detector.detect`."""
        return self._thread.submit(self._detector.detect, images, min_score).result()
