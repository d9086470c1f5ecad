"""Reactions: labels that a face begins to show soon after another face."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, Field

from app.reports.parts import Segment

WITHIN_S = 1.0
MOST_REACTIONS = 100


class Reaction(BaseModel):
    """How often one face began to show a label within 1 s after another face began to show one."""

    by: Literal["track_id", "person_id"] = Field(description="kind of `first` and `second`")
    first: int
    first_label: str
    second: int
    second_label: str
    count: int
    times_s: tuple[float, ...] = Field(description="onsets of the second face")


def reactions(segments: Mapping[int, Sequence[Segment]], by: Literal["track_id", "person_id"]) -> tuple[Reaction, ...]:
    """Count, after each onset of a face, other faces' onsets within `WITHIN_S`.  segments: by face, in order.

    A segment that begins when a face comes into view is not an onset: at a cut, all begin at once.
    """
    onsets = sorted(
        (after.start_s, key, after.label)
        for key, own in segments.items()
        for before, after in pairwise(own)
        if after.start_s == before.end_s
    )
    times = [time for time, *_ in onsets]
    found: dict[tuple[int, str, int, str], list[float]] = {}
    for at, second, second_label in onsets:
        earlier = onsets[bisect_left(times, at - WITHIN_S) : bisect_right(times, at)]
        before = {(key, label) for time, key, label in earlier if key != second and time < at}
        for key, label in before:
            found.setdefault((key, label, second, second_label), []).append(at)
    most = sorted(found.items(), key=lambda item: (-len(item[1]), item[1][0]))[:MOST_REACTIONS]
    return tuple(
        Reaction(
            by=by,
            first=first,
            first_label=first_label,
            second=second,
            second_label=second_label,
            count=len(at),
            times_s=tuple(at),
        )
        for (first, first_label, second, second_label), at in most
    )
