"""One clip through the engine: windows of a track's crops, batches of all tracks' crops, frames out in order.

The face at position c of a track is labelled from the crops c-4 .. c+4 of that track; beyond its ends the end crops are
repeated.  A face waits for four more crops of its track or for the track's end; a frame waits for its faces and for
earlier frames.  Steps are split by counts alone, never by time, and steps of one clip never share a batch: a clip that
runs alone always gives the same values; with other clips in its batches they are equal within rounding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from worker.core.records import CroppedFrame, Floats, Image, LabelledFrame
from worker.ensemble.engine import Engine, Step

STEPS_IN_FLIGHT = 2
FIRST_FRAMES = 16  # frames of a clip's first step; the limit doubles with each step, up to the engine's `step_frames`


@dataclass(eq=False)
class _Pending:
    """A frame whose faces are not all labelled yet."""

    frame: CroppedFrame
    fused: Floats  # (F, K), filled row by row
    members: Floats  # (M, F, K)
    missing: int


@dataclass(eq=False)
class _Track:
    """rows: the newest crops of a track, as rows of the step being built.  first: position of rows[0] in the track.
    waiting: faces without a window yet, oldest first."""

    rows: deque[int] = field(default_factory=deque)
    first: int = 0
    waiting: deque[tuple[_Pending, int]] = field(default_factory=deque)


@dataclass(eq=False)
class _Plan:
    """A step being built.  kept: rows of the previous step.  targets: the face that each window labels.  frames: begun
    since the last step."""

    kept: int = 0
    crops: list[Image] = field(default_factory=list)
    windows: list[list[int]] = field(default_factory=list)
    targets: list[tuple[_Pending, int]] = field(default_factory=list)
    frames: int = 0


class ClipStream:
    """Labels one clip's frames.  members: names of the members to fuse, in the engine's order.

    prior: the prior of the scores in 0..1, None for the bundle's default.
    """

    def __init__(self, engine: Engine, members: Sequence[str], prior: float | None = None) -> None:
        self._engine = engine
        self._members = tuple(members)
        self._prior = prior
        self._step_frames = min(FIRST_FRAMES, engine.step_frames)
        self._tracks: dict[int, _Track] = {}
        self._plan = _Plan()
        self._last: Step | None = None
        self._flying: deque[tuple[Step, list[tuple[_Pending, int]]]] = deque()
        self._pending: deque[_Pending] = deque()

    def run(self, frames: Iterable[CroppedFrame]) -> Iterator[LabelledFrame]:
        """Every frame once, in order."""
        for frame in frames:
            for track_id in frame.ended:
                self._end(track_id)
            self._add(frame)
            while self._flying and self._flying[0][0].result.done():
                self._land()
            yield from self._ready()
        for track_id in list(self._tracks):
            self._end(track_id)
        self._send()
        while self._flying:
            self._land()
        yield from self._ready()

    def _add(self, frame: CroppedFrame) -> None:
        faces, labels = len(frame.faces), len(self._engine.labels)
        fused = np.zeros((faces, labels), np.float32)
        pending = _Pending(frame, fused, np.zeros((len(self._members), faces, labels), np.float32), faces)
        self._pending.append(pending)
        self._plan.frames += 1
        for index, face in enumerate(frame.faces):
            track = self._tracks.setdefault(face.track_id, _Track())
            track.rows.append(self._plan.kept + len(self._plan.crops))
            self._plan.crops.append(face.crop)
            track.waiting.append((pending, index))
            if len(track.waiting) > self._engine.window // 2:
                self._window(track)
            if len(self._plan.crops) == self._engine.batch:
                self._send()
        if self._plan.frames >= self._step_frames:
            self._step_frames = min(2 * self._step_frames, self._engine.step_frames)
            self._send()

    def _window(self, track: _Track) -> None:
        """Plan the window of the track's oldest face without one."""
        half = self._engine.window // 2
        newest = track.first + len(track.rows) - 1
        centre = newest - len(track.waiting) + 1
        places = (min(max(place, 0), newest) for place in range(centre - half, centre + half + 1))
        self._plan.windows.append([track.rows[place - track.first] for place in places])
        self._plan.targets.append(track.waiting.popleft())
        while track.first < centre + 1 - half:  # the next window starts here
            track.rows.popleft()
            track.first += 1

    def _end(self, track_id: int) -> None:
        track = self._tracks.pop(track_id, None)
        while track is not None and track.waiting:
            self._window(track)

    def _send(self) -> None:
        plan = self._plan
        if plan.crops or plan.windows:
            keep = [row for track in self._tracks.values() for row in track.rows]
            windows = np.array(plan.windows, np.int64).reshape(-1, self._engine.window)
            step = Step(plan.crops, windows, np.array(keep, np.int64), self._last)
            self._engine.submit(step)
            self._last = step
            self._flying.append((step, plan.targets))
            rows = iter(range(len(keep)))
            for track in self._tracks.values():
                track.rows = deque(next(rows) for _ in track.rows)
            self._plan = _Plan(kept=len(keep))
        plan.frames = 0
        while len(self._flying) > STEPS_IN_FLIGHT:
            self._land()

    def _land(self) -> None:
        """Wait for the oldest step and store its probabilities in the faces it labels."""
        step, targets = self._flying.popleft()
        probabilities = step.result.result()
        if not targets:
            return
        fused, members = self._engine.fuse(probabilities, self._members, self._prior)
        for row, (pending, face) in enumerate(targets):
            pending.fused[face] = fused[row]
            pending.members[:, face] = members[:, row]
            pending.missing -= 1

    def _ready(self) -> Iterator[LabelledFrame]:
        while self._pending and not self._pending[0].missing:
            done = self._pending.popleft()
            yield LabelledFrame(done.frame, done.fused, done.members)
