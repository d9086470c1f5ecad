"""Tracks: which face of one frame is which face of the next.

A track is one face over time.  It ends at a cut, or when it was not seen for `MAX_GAP_S`; after a shorter gap it goes
on with the same id, so that a turned head or somebody who walks past does not make a new person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from worker.core.boxes import match_boxes
from worker.core.records import DetectedFrame, Floats, TrackedFrame

MAX_GAP_S = 2.0
VELOCITY_S = 0.15  # how much of the past the velocity is a mean of
FORESEEN_S = 0.7  # a face that is not seen is expected to go on so long, then to wait


@dataclass
class _Track:
    box: Floats  # (4,) xyxy, where it was seen last
    velocity: Floats  # (2,) pixels a second of the box's centre
    seen_s: float
    seen_frame: int

    def expected(self, now_s: float) -> Floats:
        """(4,) where the face should be by now."""
        return np.asarray(self.box + np.tile(self.velocity * min(now_s - self.seen_s, FORESEEN_S), 2), np.float32)

    def see(self, box: Floats, now_s: float, frame: int) -> None:
        elapsed_s = max(now_s - self.seen_s, 1e-6)
        moved = (box[:2] + box[2:] - self.box[:2] - self.box[2:]) / 2 / elapsed_s
        weight = elapsed_s / (elapsed_s + VELOCITY_S)
        self.velocity = np.asarray(self.velocity + (moved - self.velocity) * weight, np.float32)
        self.box, self.seen_s, self.seen_frame = box, now_s, frame


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
            yield TrackedFrame(detected.frame, detected.faces, ids, tuple(ended), detected.left_out)

    def _assign(self, detected: DetectedFrame, position: int) -> tuple[int, ...]:
        boxes, now_s = detected.faces.boxes, detected.frame.timestamp_s
        ids = [-1] * len(boxes)
        # Faces of the frame before first: where one passes in front of another, the hidden one must not take its place.
        # Then those that were away, first where they should be by now, then where they were seen last.
        there = {k: track for k, track in self._active.items() if track.seen_frame == position - 1}
        away = {k: track for k, track in self._active.items() if track.seen_frame != position - 1}
        for tracks, foreseen in ((there, True), (there, False), (away, True), (away, False)):
            free = [j for j, known in enumerate(ids) if known < 0]
            open_ = [k for k in tracks if k not in ids]
            if not free or not open_:
                continue
            places = [tracks[k].expected(now_s) if foreseen else tracks[k].box for k in open_]
            for i, j in match_boxes(np.array(places, np.float32).reshape(-1, 4), boxes[free]):
                ids[free[j]] = open_[i]
        for j, box in enumerate(boxes):
            if ids[j] < 0:
                ids[j] = self._next_id
                self._next_id += 1
                self._active[ids[j]] = _Track(box, np.zeros(2, np.float32), now_s, position)
            else:
                self._active[ids[j]].see(box, now_s, position)
        return tuple(ids)
