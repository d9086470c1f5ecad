"""Processing time of each stage of the pipeline, so that operators find the bottleneck."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

Item = TypeVar("Item")


@dataclass
class Clock:
    """One stage's processing time, without waits for the previous stage or time of other stages.  For one thread.

    seconds: total, never decreasing.
    """

    seconds: float = 0.0
    _elsewhere: float = 0.0  # waits and other stages' time of the current item

    def working(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the stage's output, and measure the time of each item."""
        iterator = iter(items)
        try:
            while True:
                self._elsewhere, began = 0.0, time.perf_counter()
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                finally:
                    self.seconds += max(time.perf_counter() - began - self._elsewhere, 0.0)
                yield item
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def waiting(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the stage's input, and exclude the wait for each item."""
        iterator = iter(items)
        while True:
            began = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._elsewhere += time.perf_counter() - began
            yield item

    @contextmanager
    def lent(self, other: Clock) -> Iterator[None]:
        """Attribute the block's time, in this stage's thread, to another stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            other.seconds += spent
            self._elsewhere += spent


@dataclass
class StageClocks:
    """The clocks of one input."""

    decode: Clock = field(default_factory=Clock)
    faces: Clock = field(default_factory=Clock)  # detection, interpolation and tracks
    crops: Clock = field(default_factory=Clock)
    ensemble: Clock = field(default_factory=Clock)  # includes waits for other inputs' batches
    _taken: dict[str, float] = field(default_factory=dict)

    def take(self) -> dict[str, float]:
        """Seconds by stage since the last call.  Call it from one thread only, also while the stages run."""
        now = {name: getattr(self, name).seconds for name in ("decode", "faces", "crops", "ensemble")}
        new = {name: seconds - self._taken.get(name, 0.0) for name, seconds in now.items()}
        self._taken = now
        return new
