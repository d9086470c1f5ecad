"""Stage clocks: each stage's own time, without waiting and without what others do in its thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from worker.inference import stage_timing
from worker.inference.stage_timing import Clock, StageClocks


class Time:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The time of `worker.inference.stage_timing`."""
    fake = Time()
    monkeypatch.setattr(stage_timing, "time", fake)
    return fake


def stage(time: Time, seconds: float, items: Iterator[int]) -> Iterator[int]:
    for item in items:
        time.now += seconds
        yield item


def test_each_stage_counts_its_own_time(time: Time) -> None:
    """Of three stages in one thread, each counts what it worked, and a stage within another is not counted twice."""
    first, second, inner = Clock(), Clock(), Clock()

    def both(items: Iterator[int]) -> Iterator[int]:
        for item in stage(time, 0.5, items):
            with second.lent(inner):
                time.now += 0.125
            yield item

    source = first.working(stage(time, 2.0, iter(range(8))))
    for _ in second.working(both(second.waiting(source))):
        time.now += 100  # of who reads
    assert (first.seconds, second.seconds, inner.seconds) == (16, 4, 1)


def test_taking_gives_each_second_once(time: Time) -> None:
    """Each value is reported once, so counters only increase."""
    stages = StageClocks()
    working = stages.decode.working(stage(time, 0.25, iter(range(4))))
    next(working)
    assert stages.take() == {"decode": 0.25, "faces": 0, "crops": 0, "ensemble": 0}
    assert list(working) == [1, 2, 3]
    assert stages.take()["decode"] == 0.75
    assert stages.take()["decode"] == 0


def test_an_abandoned_stage_is_closed(time: Time) -> None:
    """Closing what the stage makes closes the stage, so that a decoder is released at once."""
    closed = []

    def source() -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            closed.append(True)

    working = Clock().working(source())
    assert next(working) == 0
    working.close()  # type: ignore[attr-defined]  # a generator's
    assert closed
