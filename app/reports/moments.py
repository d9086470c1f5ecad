"""Moments: frames in which a face differs most from its person's own neutral face."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, Field

from app.contract.frames import Face, Frame

MOST_MOMENTS = 10
APART_S = 1.0
KEPT = 64  # candidates, one per second


class Moment(BaseModel):
    """A frame with a large change."""

    frame_index: int
    timestamp_s: float
    label: str
    change: float = Field(description="of the label's log-odds")
    score: float


class MomentTally:
    """Keeps the largest change of each second, for the seconds with the largest changes."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._others = [k for k, label in enumerate(labels) if label != "Neutral"]
        self._labels = labels
        self._asked = False
        self._best: dict[int, Moment] = {}  # by second

    def add(self, frame: Frame, face: Face) -> None:
        """Add a frame."""
        if face.change is None:
            return
        self._asked = True
        label = max(self._others, key=face.change.__getitem__)
        second = int(frame.timestamp_s // APART_S)
        if second in self._best and self._best[second].change >= face.change[label]:
            return
        self._best[second] = Moment(
            frame_index=frame.frame_index,
            timestamp_s=frame.timestamp_s,
            label=self._labels[label],
            change=face.change[label],
            score=face.scores[label],
        )
        if len(self._best) > KEPT:
            del self._best[min(self._best, key=lambda second: self._best[second].change)]

    def largest(self) -> tuple[Moment, ...] | None:
        """The largest first, at least `APART_S` apart; None if no face has a change."""
        if not self._asked:
            return None
        found: list[Moment] = []
        for moment in sorted(self._best.values(), key=lambda moment: -moment.change):
            if all(abs(moment.timestamp_s - other.timestamp_s) >= APART_S for other in found):
                found.append(moment)
        return tuple(found[:MOST_MOMENTS])
