"""Presentation times: one clock that increases from picture to picture, for every container.

Containers that browsers play keep their timestamps with edit lists applied, as in a player.  Others start at 0.  A
clock that wraps, or jumps because files were joined, is made continuous.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, Generic, TypeVar

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

DEFAULT_FPS = 30.0  # for containers without a rate
PLAUSIBLE_FPS = 1000.0
CLOCK_BITS = 33  # of MPEG's, in 90 kHz
BACK_S = 1.0  # a jump back by this starts a new clock ...
AHEAD_S = 120.0  # ... and so does a jump ahead by this, unless other tracks, such as audio, are ...
TOGETHER_S = 30.0  # ... within this
LONGEST_S = 1e9  # later times, 30 years, are invalid
HELD = 2  # maximum items that wait for the next known time
PAUSE_MS = 1000  # longer gaps are pauses of the recording
# Browsers replace a delay of at most SHORTEST_MS in an animation by INSTEAD_MS.
SHORTEST_MS, INSTEAD_MS = 10, 100
UNORDERED = "{} timestamps of the container do not increase or are missing; they were put between their neighbours"

Item = TypeVar("Item")


class PacketClock:
    """Makes the timestamps of a track's packets continuous.  For containers without an index."""

    def __init__(self, stream: VideoStream) -> None:
        self._index = stream.index
        self._base = stream.time_base or Fraction(1, 90_000)
        self._wrap = 2**CLOCK_BITS
        self._offset = 0  # in ticks of the track
        self._last: int | None = None  # the last packet's dts, moved
        self._step = round(1 / DEFAULT_FPS / self._base)
        self._others_s: float | None = None  # the last dts of other tracks

    @property
    def offset_s(self) -> float:
        """Seconds that are added at present."""
        return float(self._offset * self._base)

    def set(self, packet: Packet[Any]) -> None:
        """Correct the timestamps of a packet of the track; record those of other tracks."""
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None:
            return
        if packet.stream_index != self._index:
            self._others_s = float(stamp * (packet.time_base or self._base))
            return
        moved = stamp + self._offset
        if self._last is not None:
            ahead = moved - self._last
            ahead_s = float(ahead * self._base)
            if ahead_s < -BACK_S or (ahead_s > AHEAD_S and not self._with_others(stamp)):
                wrapped = (moved + self._wrap - self._last) * self._base
                self._offset += self._wrap if 0 < wrapped < AHEAD_S else self._last + self._step - moved
                moved = stamp + self._offset
            elif 0 < ahead_s < BACK_S:
                self._step = ahead
        self._last = moved if self._last is None else max(moved, self._last)
        if self._offset:
            packet.dts = None if packet.dts is None else packet.dts + self._offset
            packet.pts = None if packet.pts is None else packet.pts + self._offset

    def _with_others(self, stamp: int) -> bool:
        return self._others_s is not None and abs(float(stamp * self._base) - self._others_s) < TOGETHER_S


class GifClock:
    """Gives a GIF's packets the timestamps of browsers.

    Source: Chromium's `DeferredImageDecoder::FrameDurationAtIndex`, and Firefox's rule that it follows.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._ms = 1 / (1000 * (stream.time_base or Fraction(1, 100)))  # ticks
        self._next = 0

    def set(self, packet: Packet[Any]) -> None:
        """Set the timestamps of the next packet."""
        packet.pts = packet.dts = self._next
        delay = packet.duration or 0
        self._next += delay if delay > SHORTEST_MS * self._ms else round(INSTEAD_MS * self._ms)


def zero_s(container: InputContainer, *, plays_in_browsers: bool) -> float:
    """The container's time at `timestamp_s` 0."""
    starts = [
        float(stream.start_time * stream.time_base)  # the container's own is rounded
        for stream in container.streams
        if stream.start_time is not None and stream.time_base is not None
    ]
    start_s = min((start for start in starts if abs(start) < LONGEST_S), default=0.0)
    return min(start_s, 0.0) if plays_in_browsers else start_s


def time_s(timed: VideoFrame | Packet[Any], base: Fraction | None) -> float | None:
    """A frame's or packet's time on the container's clock in seconds, None if missing or invalid.

    base: the track's time base, None for the packet's; the last frames of a decoder have none.
    """
    stamp = timed.pts if timed.pts is not None else timed.dts
    base = base or timed.time_base
    if stamp is None or not base:
        return None
    found = stamp * base.numerator / base.denominator  # Fraction arithmetic would be slow for each frame
    return found if abs(found) < LONGEST_S else None


class Increasing(Generic[Item]):
    """Makes times increase: an invalid time is interpolated between its neighbours; valid ones stay.

    period_s: fallback interval between items.  filled: the number of interpolated times.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._last_s = -math.inf
        self._held: list[Item] = []
        self.filled = 0

    def run(self, items: Iterable[tuple[float | None, Item]]) -> Iterator[tuple[float, Item]]:
        """Items with increasing times, in order; None is an unknown time."""
        for said_s, item in items:
            if said_s is not None and said_s > self._last_s and said_s >= 0:
                yield from self._fill(said_s)
                self._last_s = said_s
                yield said_s, item
            else:
                self._held.append(item)
                if len(self._held) > HELD:
                    yield from self._fill(math.inf)
        yield from self._fill(math.inf)

    def _fill(self, next_s: float) -> Iterator[tuple[float, Item]]:
        """Release the held items, a period apart, or closer if the next known time requires it."""
        held, self._held = self._held, []
        self.filled += len(held)
        if self._last_s < 0 and held:  # before the first known time: back from it, but not before 0
            first_s = 0.0 if next_s == math.inf else max(next_s - len(held) * self._period_s, 0.0)
            step_s = min(self._period_s, (next_s - first_s) / len(held))
        else:
            step_s = min(self._period_s, (next_s - self._last_s) / (len(held) + 1))
            first_s = self._last_s + step_s
        for i, item in enumerate(held):
            self._last_s = first_s + i * step_s
            yield self._last_s, item


class Gaps:
    """Counts missing pictures in a track of constant rate, for containers that drop damaged data silently."""

    def __init__(self) -> None:
        self._steps: Counter[int] = Counter()  # in milliseconds
        self._last_s: float | None = None

    def see(self, timestamp_s: float) -> None:
        """Record the next picture's time."""
        if self._last_s is not None:
            self._steps[round(1000 * (timestamp_s - self._last_s))] += 1
        self._last_s = timestamp_s

    @property
    def missing(self) -> int:
        """The number of missing pictures; 0 if the rate is not constant.  Gaps above `PAUSE_MS` do not count."""
        if not self._steps:
            return 0
        usual = max(self._steps.most_common(1)[0][0], 1)
        steady = sum(count for step, count in self._steps.items() if abs(step - usual) <= 1)
        if steady < sum(self._steps.values()) / 2:
            return 0
        return sum((round(step / usual) - 1) * count for step, count in self._steps.items() if usual < step <= PAUSE_MS)
