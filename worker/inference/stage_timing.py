"""How long each stage of the pipeline worked, for the operator who asks which one sets the pace."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

Item = TypeVar("Item")


@dataclass
class Clock:
    """One stage's time, without what it waited for the stage before or lent to another.  Of one thread.

    seconds: so far; it only grows.
    """

    seconds: float = 0.0
    _elsewhere: float = 0.0  # of the item under way

    def working(self, items: Iterable[Item]) -> Iterator[Item]:
        """What the stage makes; the making of each item is counted."""
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
        """What the stage takes; the time until each item is there is not its own."""
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
        """This time is another stage's, in this stage's thread."""
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            other.seconds += spent
            self._elsewhere += spent


@dataclass
class StageClocks:
    """Of one input on its way through the pipeline."""

    decode: Clock = field(default_factory=Clock)
    faces: Clock = field(default_factory=Clock)  # detection, interpolation and tracks
    crops: Clock = field(default_factory=Clock)
    ensemble: Clock = field(default_factory=Clock)  # the engine shares its batches, so waiting for others' is in it
    _taken: dict[str, float] = field(default_factory=dict)

    def take(self) -> dict[str, float]:
        """Seconds by stage since they were last taken.  From any one thread, also while the stages work."""
        now = {name: getattr(self, name).seconds for name in ("decode", "faces", "crops", "ensemble")}
        new = {name: seconds - self._taken.get(name, 0.0) for name, seconds in now.items()}
        self._taken = now
        return new
