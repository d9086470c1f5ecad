"""Prefetching: the same items in the same order, a bounded number ahead, and no thread that outlives its reader."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from worker.inference.prefetch import prefetched


def alive(name: str) -> bool:
    return any(thread.name == name for thread in threading.enumerate())


def wait_until_still(values: list[int]) -> None:
    """Until nothing was added for a while."""
    length = -1
    while length != len(values):
        length = len(values)
        time.sleep(0.1)


@pytest.mark.parametrize("budget", [0, 1, 7, 10_000])
def test_order_is_kept(budget: int) -> None:
    """With any budget, every item is yielded once and in order."""
    with prefetched(range(500), budget, lambda _: 1, "kept") as items:
        assert list(items) == list(range(500))
    assert not alive("kept")


def test_nothing_comes_of_nothing() -> None:
    """An empty source ends at once."""
    with prefetched(iter(()), 5, lambda _: 1, "empty") as items:
        assert list(items) == []


@pytest.mark.parametrize(("budget", "weight", "ahead"), [(5, 1, 5), (10, 3, 3), (2, 100, 1)])
def test_the_thread_runs_a_bounded_weight_ahead(budget: int, weight: int, ahead: int) -> None:
    """Unread items weigh at most the budget; one always fits.  One more is made and waits for room."""
    made: list[int] = []

    def source() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    with prefetched(source(), budget, lambda _: weight, "bounded") as items:
        wait_until_still(made)
        assert len(made) == ahead + 1
        assert [next(items) for _ in range(3)] == [0, 1, 2]
        wait_until_still(made)
        assert len(made) == ahead + 4


def test_an_error_is_raised_where_the_reader_reaches_it() -> None:
    """Items before the error are read first; then it is raised with its own type."""

    def source() -> Iterator[int]:
        yield from range(3)
        raise KeyError("broken")

    with prefetched(source(), 100, lambda _: 1, "broken") as items:
        assert [next(items) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(KeyError, match="broken"):
            next(items)
    assert not alive("broken")


def test_a_reader_that_leaves_stops_the_thread() -> None:
    """After the reader broke off, the thread has ended and the source was closed."""
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    def leave() -> None:
        with prefetched(source(), 10, lambda _: 1, "left") as items:
            next(items)
            raise RuntimeError("cancelled")

    with pytest.raises(RuntimeError, match="cancelled"):
        leave()
    assert closed.is_set()
    assert not alive("left")
