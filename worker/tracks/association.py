"""Association: match the faces of each frame to tracks.

A track is one face over time.  It ends at a cut or when unseen for `MAX_GAP_S`.  After a shorter gap it continues with
the same id, so that a turned head or a passer-by does not start a new track.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from worker.core.boxes import match_boxes
from worker.core.records import DetectedFrame, Floats, TrackedFrame

MAX_GAP_S = 2.0
VELOCITY_S = 0.15  # time constant of the mean velocity
# An unseen face is expected to keep its velocity for the whole gap; else for 0.7 s; else to stay where it was.
FORESEEN_S = (MAX_GAP_S, 0.7, 0.0)
# An occluder shrinks and shifts a box before it hides the face, and single boxes at the frame's edge are wrong.  So the
# position this long before also counts.
SETTLED_S = 0.3


@dataclass(frozen=True)
class _Seen:
    """A face at one time.  box: (4,) xyxy in pixels.  velocity: (2,) of the box's centre, pixels a second."""

    at_s: float
    box: Floats
    velocity: Floats

    def expected(self, now_s: float, foreseen_s: float) -> Floats:
        """(4,) the expected box at `now_s`, if the face keeps its velocity for at most `foreseen_s`."""
        return np.asarray(self.box + np.tile(self.velocity * min(now_s - self.at_s, foreseen_s), 2), np.float32)


@dataclass
class _Track:
    """seen: within the last `SETTLED_S`, and the newest before that.  frame: position of the last frame with it."""

    frame: int
    seen: deque[_Seen] = field(default_factory=deque)

    @property
    def last(self) -> _Seen:
        return self.seen[-1]

    def see(self, box: Floats, now_s: float, frame: int) -> None:
        velocity = np.zeros(2, np.float32)
        if self.seen:
            last = self.last
            elapsed_s = max(now_s - last.at_s, 1e-6)
            moved = (box[:2] + box[2:] - last.box[:2] - last.box[2:]) / 2 / elapsed_s
            weight = elapsed_s / (elapsed_s + VELOCITY_S)
            velocity = np.asarray(last.velocity + (moved - last.velocity) * weight, np.float32)
        self.frame = frame
        self.seen.append(_Seen(now_s, box, velocity))
        while len(self.seen) > 2 and self.seen[1].at_s <= now_s - SETTLED_S:
            self.seen.popleft()


class Tracker:
    """Assigns track ids, from 0 in order of appearance."""

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
                # The previous frame is always near enough, however low the sampling rate.
                if detected.starts_shot or (now_s - track.last.at_s > MAX_GAP_S and position - track.frame > 1)
            ]
            for track_id in ended:
                del self._active[track_id]
            ids = self._assign(detected, position)
            yield TrackedFrame(detected.frame, detected.faces, ids, tuple(ended), detected.left_out)

    def _assign(self, detected: DetectedFrame, position: int) -> tuple[int, ...]:
        boxes, now_s = detected.faces.boxes, detected.frame.timestamp_s
        ids = [-1] * len(boxes)
        # Tracks seen in the previous frame first: a hidden face must not take over the face that passes in front of it.
        there = [k for k, track in self._active.items() if track.frame == position - 1]
        away = [k for k, track in self._active.items() if track.frame != position - 1]
        for tracks, seen, foreseen_s in (
            *((there, seen, foreseen_s) for seen in (-1, 0) for foreseen_s in FORESEEN_S[1:]),
            *((away, seen, foreseen_s) for foreseen_s in FORESEEN_S for seen in (-1, 0)),
        ):
            free = [j for j, known in enumerate(ids) if known < 0]
            open_ = [k for k in tracks if k not in ids]
            if not free or not open_:
                continue
            places = [self._active[k].seen[seen].expected(now_s, foreseen_s) for k in open_]
            for i, j in match_boxes(np.array(places, np.float32).reshape(-1, 4), boxes[free]):
                ids[free[j]] = open_[i]
        for j, box in enumerate(boxes):
            if ids[j] < 0:
                ids[j] = self._next_id
                self._next_id += 1
                self._active[ids[j]] = _Track(position)
            self._active[ids[j]].see(box, now_s, position)
        return tuple(ids)
