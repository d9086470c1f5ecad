"""Tracks: which face of one frame is which face of the next.

A track is one face over time.  It ends at a cut, or when it was not seen for `MAX_GAP_S`; a shorter gap leaves frames
without that face and goes on with the same id, so that a turned head or a passing hand does not make a new person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from worker.core.boxes import match_boxes
from worker.core.records import DetectedFrame, Floats, TrackedFrame

MAX_GAP_S = 1.0


@dataclass
class _Track:
    box: Floats  # (4,) xyxy, where it was seen last
    seen_s: float
    seen_frame: int


class Tracker:
    """Gives every face a track id; ids count up from 0 in order of appearance."""

    def __init__(self) -> None:
        self._active: dict[int, _Track] = {}
        self._next_id = 0

    def run(self, frames: Iterable[DetectedFrame]) -> Iterator[TrackedFrame]:
        """Every frame with its faces' ids, in order."""
        for position, detected in enumerate(frames):
            now_s = detected.frame.timestamp_s
            ended = [
                track_id
                for track_id, track in self._active.items()
                # The frame before is always near enough, however rarely frames are sampled.
                if detected.starts_shot or (now_s - track.seen_s > MAX_GAP_S and position - track.seen_frame > 1)
            ]
            for track_id in ended:
                del self._active[track_id]
            ids = self._assign(detected, position)
            yield TrackedFrame(detected.frame, detected.faces, ids, tuple(ended))

    def _assign(self, detected: DetectedFrame, position: int) -> tuple[int, ...]:
        boxes = detected.faces.boxes
        known = list(self._active)
        last = np.array([self._active[track_id].box for track_id in known], np.float32).reshape(-1, 4)
        ids = [-1] * len(boxes)
        for i, j in match_boxes(last, boxes):
            ids[j] = known[i]
        for j, box in enumerate(boxes):
            if ids[j] < 0:
                ids[j] = self._next_id
                self._next_id += 1
            self._active[ids[j]] = _Track(box, detected.frame.timestamp_s, position)
        return tuple(ids)
