"""Collects results over a whole input: people, and each person's own neutral face."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from app.contract.frames import Frame
from app.contract.options import JobOptions
from app.contract.whole import BestFrame, Whole, log_odds
from worker.people.gathering import Gathering

NEUTRAL = "Neutral"
CALMEST = 0.2  # of a person's frames
FEWEST = 5  # frames that a baseline is a mean of
BINS = 64  # of the neutral score


class NoNeutralError(ValueError):
    """`baseline=auto` needs a label that is called Neutral."""


class WholeTally:
    """The tally of one input.  Memory grows with the tracks, not with the frames."""

    def __init__(self, options: JobOptions, labels: Sequence[str], people: Gathering | None) -> None:
        """people: None unless the options request them.  Raises: NoNeutralError."""
        if options.baseline == "auto" and NEUTRAL not in labels:
            raise NoNeutralError(f"baseline=auto needs a label {NEUTRAL}, which this model lacks")
        self.people = people
        self._asked = options.baseline is not None
        self._span_s = options.baseline_span_s
        self._neutral = labels.index(NEUTRAL) if NEUTRAL in labels else 0
        self._labels = len(labels)
        # By track and bin of the neutral score: how many frames, and sums of the log-odds (K,).
        self._sums: dict[int, npt.NDArray[np.float64]] = {}

    def seen(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames as they come."""
        for frame in frames:
            if self._asked:
                self._add(frame)
            yield frame

    def whole(self) -> Whole:
        """After the last frame."""
        people, best = ({}, {}) if self.people is None else self.people.people()
        return Whole(
            people=people,
            best={
                person: BestFrame(seen.frame_index, round(seen.timestamp_s, 6), seen.track_id)
                for person, seen in best.items()
            },
            neutral=self._baselines(people),
        )

    def _add(self, frame: Frame) -> None:
        if self._span_s is not None and not self._span_s[0] <= frame.timestamp_s < self._span_s[1]:
            return
        for face in frame.faces:
            sums = self._sums.get(face.track_id)
            if sums is None:
                sums = self._sums[face.track_id] = np.zeros((BINS, 1 + self._labels))
            place = min(int(face.scores[self._neutral] * BINS), BINS - 1)
            sums[place] += (1.0, *(log_odds(score) for score in face.scores))

    def _baselines(self, people: dict[int, int]) -> dict[int, tuple[float, ...]]:
        """Log-odds by track; tracks of one person share a baseline."""
        own = {track_id: _owner(track_id, people) for track_id in self._sums}
        joined: dict[tuple[int, int], npt.NDArray[np.float64]] = {}
        for track_id, sums in self._sums.items():
            joined[own[track_id]] = joined.get(own[track_id], 0) + sums
        found = {}
        for key, sums in joined.items():
            total = sums.sum(axis=0) if self._span_s is not None else _calmest(sums)
            if total[0] >= FEWEST:
                found[key] = tuple(round(float(value), 4) for value in total[1:] / total[0])
        if self._span_s is None:
            return {track_id: found[key] for track_id, key in own.items() if key in found}
        # Tracks of the same person outside the span have that person's baseline, too.
        tracks = {track_id: _owner(track_id, people) for track_id in people} | own
        return {track_id: found[key] for track_id, key in tracks.items() if key in found}


def _owner(track_id: int, people: dict[int, int]) -> tuple[int, int]:
    """The key of a track's baseline: its person, or the track itself."""
    return (people[track_id], -1) if track_id in people else (-1, track_id)


def _calmest(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Count and sums (1 + K,) of the `CALMEST` frames, those with the highest neutral score."""
    wanted = CALMEST * sums[:, 0].sum()
    total = np.zeros(sums.shape[1])
    for row in sums[::-1]:
        if row[0]:
            total += row * min((wanted - total[0]) / row[0], 1.0)
        if total[0] >= wanted - 1e-9:
            break
    return total
