"""Segments: intervals in which a face has one label, computed from noisy scores.

A Gaussian smooths the scores of a face over time, the label with the highest smoothed score is chosen, and runs that
are shorter than `min_segment_s` are merged into a neighbour.  Captions, summaries and the formats with segments all use
this module; the scores of the records do not change.

Everything streams: a frame is decided at most 1.5 `smooth_s` and three `min_segment_s` after its arrival.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import mul
from typing import Protocol

from app.contract.frames import Face, Frame

SMOOTH_S, MIN_SEGMENT_S, UNSURE_BELOW = 0.3, 0.4, 0.4
# `smooth_s` is the full width at half maximum, 2.355 standard deviations; the Gaussian is truncated at three of them.
_DEVIATIONS = 2 * math.sqrt(2 * math.log(2))
_CUT = 3.0
_LEAST_DEVIATION_S = 1e-6  # the resolution of times; a narrower Gaussian weighs its own frame alone


class SmoothingOptions(Protocol):
    """The source of the three values: a job's options."""

    @property
    def smooth_s(self) -> float: ...
    @property
    def min_segment_s(self) -> float: ...
    @property
    def unsure_below(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Smoothing:
    """smooth_s: full width at half maximum of the Gaussian, seconds; 0: no smoothing.  min_segment_s: shortest segment.

    unsure_below: segments with a lower mean score are unsure.
    """

    smooth_s: float = SMOOTH_S
    min_segment_s: float = MIN_SEGMENT_S
    unsure_below: float = UNSURE_BELOW

    @staticmethod
    def chosen(
        options: SmoothingOptions,
        smooth_s: float | None = None,
        min_segment_s: float | None = None,
        unsure_below: float | None = None,
    ) -> Smoothing:
        """A request's parameters, with the job's options as defaults.  With `smooth_s` 0 segments are raw runs, unless
        the request sets `min_segment_s`."""
        smooth = options.smooth_s if smooth_s is None else smooth_s
        shortest = min_segment_s
        if shortest is None:
            shortest = options.min_segment_s if smooth else 0.0
        return Smoothing(smooth, shortest, options.unsure_below if unsure_below is None else unsure_below)


@dataclass(slots=True)
class ShownFrame:
    """A frame, and for each of its faces the index of its segment's label and the smoothed scores (K,)."""

    frame: Frame
    labels: list[int]
    scores: list[Sequence[float]]
    missing: int


def shown(frames: Iterable[Frame], smoothing: Smoothing) -> Iterator[ShownFrame]:
    """Every frame, in order, with the labels of its segments.  A segment ends when its face is missing in a frame."""
    waiting: deque[ShownFrame] = deque()
    present: dict[int, _Presence] = {}
    last_s = interval_s = 0.0
    for position, frame in enumerate(frames):
        if position:
            interval_s = max(frame.timestamp_s - last_s, 0.0)
        last_s = frame.timestamp_s
        pending = ShownFrame(frame, [-1] * len(frame.faces), [()] * len(frame.faces), len(frame.faces))
        waiting.append(pending)
        here = {face.track_id for face in frame.faces}
        for track_id in [track_id for track_id in present if track_id not in here]:
            present.pop(track_id).end(frame.timestamp_s)
        for place, face in enumerate(frame.faces):
            if face.track_id not in present:
                present[face.track_id] = _Presence(smoothing)
            present[face.track_id].add(_Entry(frame.timestamp_s, face, pending, place))
        while waiting and not waiting[0].missing:
            yield waiting.popleft()
    for presence in present.values():
        presence.end(last_s + interval_s)
    yield from waiting


@dataclass(slots=True)
class _Entry:
    """A face in a frame.  scores: smoothed; label: the index of the highest."""

    time_s: float
    face: Face
    target: ShownFrame
    place: int
    scores: Sequence[float] = ()
    label: int = -1

    def decide(self, label: int) -> None:
        self.target.labels[self.place] = label
        self.target.scores[self.place] = self.scores
        self.target.missing -= 1


@dataclass(slots=True)
class _Stretch:
    """Consecutive entries."""

    entries: list[_Entry] = field(default_factory=list)

    @property
    def start_s(self) -> float:
        return self.entries[0].time_s

    def decide(self, among: Sequence[int]) -> int:
        """Assign the label of `among` with the highest total score here to all entries -> that label."""
        best = among[0]
        if len(among) > 1:
            best = max(among, key=lambda k: sum(entry.scores[k] for entry in self.entries))
        for entry in self.entries:
            entry.decide(best)
        self.entries = []
        return best


class _Presence:
    """A face, from its first frame until a frame in which it is missing."""

    def __init__(self, smoothing: Smoothing) -> None:
        deviation_s = smoothing.smooth_s / _DEVIATIONS
        self._deviation_s = deviation_s if deviation_s > _LEAST_DEVIATION_S else 0.0
        self._least_s = smoothing.min_segment_s
        self._near: deque[_Entry] = deque()  # entries within the Gaussian of the next one to be smoothed
        self._coming = 0  # number of these that are not yet smoothed
        self._before: int | None = None  # label of the last decided segment
        self._short = _Stretch()  # runs after that segment, each too short
        self._run = _Stretch()  # the newest run
        self._long = False  # whether that run is long enough for a segment

    def add(self, entry: _Entry) -> None:
        """Add a frame."""
        if not self._deviation_s:
            entry.scores = entry.face.scores
            self._take(entry)
            return
        self._near.append(entry)
        self._coming += 1
        reach_s = _CUT * self._deviation_s
        while self._coming and entry.time_s - self._near[-self._coming].time_s >= reach_s:
            self._smooth()

    def end(self, end_s: float) -> None:
        """End the track: the face is missing at `end_s`."""
        while self._coming:
            self._smooth()
        if not self._run.entries and not self._short.entries:
            return
        self._close(end_s)
        if self._short.entries:
            self._short.decide(self._neighbours(None))

    def _smooth(self) -> None:
        entry = self._near[-self._coming]
        reach_s = _CUT * self._deviation_s
        while self._near[0].time_s < entry.time_s - reach_s:
            self._near.popleft()
        scale = -0.5 / self._deviation_s**2
        weights = [math.exp(scale * (other.time_s - entry.time_s) ** 2) for other in self._near]
        total = sum(weights)
        columns = zip(*(other.face.scores for other in self._near), strict=True)
        entry.scores = [sum(map(mul, weights, column)) / total for column in columns]
        self._coming -= 1
        self._take(entry)

    def _take(self, entry: _Entry) -> None:
        """Add the next smoothed entry."""
        entry.label = max(range(len(entry.scores)), key=entry.scores.__getitem__)
        if self._run.entries and self._run.entries[-1].label != entry.label:
            self._close(entry.time_s)
        if self._long and entry.label == self._before:
            entry.decide(entry.label)
            return
        self._long = False
        self._run.entries.append(entry)
        if entry.time_s - self._run.start_s >= self._least_s:
            self._commit()

    def _close(self, end_s: float) -> None:
        """End the newest run."""
        if not self._run.entries:
            return
        if end_s - self._run.start_s >= self._least_s:
            self._commit()
            return
        self._short.entries += self._run.entries
        self._run.entries = []
        if end_s - self._short.start_s >= self._least_s:
            self._before = self._short.decide(range(len(self._short.entries[0].scores)))

    def _commit(self) -> None:
        """The newest run has become a segment."""
        label = self._run.entries[0].label
        if self._short.entries:
            self._short.decide(self._neighbours(label))
        self._before = self._run.decide([label])
        self._long = True

    def _neighbours(self, after: int | None) -> Sequence[int]:
        """Candidate labels for a short run."""
        found = [label for label in (self._before, after) if label is not None]
        return found or range(len(self._short.entries[0].scores))
