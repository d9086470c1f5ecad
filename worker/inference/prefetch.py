"""Overlapping stages: run a generator in a separate thread, a bounded number of bytes ahead of its reader."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")


class _Buffer(Generic[Item]):
    """A queue bounded by weight that either side can close."""

    def __init__(self, budget: int, weigh: Callable[[Item], int]) -> None:
        self._items: deque[tuple[Item, int]] = deque()
        self._budget = budget
        self._weigh = weigh
        self._weight = 0
        self._change = threading.Condition()
        self._finished = False
        self._abandoned = False
        self._error: BaseException | None = None

    def put(self, item: Item) -> bool:
        """Wait for space, then append; False if the reader has stopped.  One item always fits.

        A full buffer takes the next item when it is half empty, so that the threads do not switch for each item.
        """
        weight = self._weigh(item)
        with self._change:
            if self._weight + weight > self._budget:
                self._change.wait_for(lambda: self._abandoned or not self._items or self._has_room_for(weight))
            if self._abandoned:
                return False
            self._items.append((item, weight))
            self._weight += weight
            if len(self._items) == 1:
                self._change.notify_all()
            return True

    def _has_room_for(self, weight: int) -> bool:
        return self._weight <= self._budget // 2 and self._weight + weight <= self._budget

    def finish(self, error: BaseException | None) -> None:
        with self._change:
            self._finished, self._error = True, error
            self._change.notify_all()

    def abandon(self) -> None:
        with self._change:
            self._abandoned = True
            self._items.clear()
            self._change.notify_all()

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._change:
                self._change.wait_for(lambda: bool(self._items) or self._finished)
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item, weight = self._items.popleft()
                self._weight -= weight
                if self._weight <= self._budget // 2:
                    self._change.notify_all()
            yield item


@contextmanager
def prefetched(items: Iterable[Item], budget: int, weigh: Callable[[Item], int], name: str) -> Iterator[Iterator[Item]]:
    """Iterate `items` in a thread named `name`, at most `budget` ahead by the weights of `weigh`.

    The reader gets an error of the thread after the items before it.  On exit, the thread is stopped at its next item
    and joined, so that nothing of a cancelled job keeps running.
    """
    buffer: _Buffer[Item] = _Buffer(budget, weigh)

    def fill() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not buffer.put(item):
                    break
        except BaseException as caught:  # raised again in the reader
            error = caught
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            buffer.finish(error)

    # A copy of the caller's context, so that the thread's log lines have the job's id.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(fill,), name=name, daemon=True)
    thread.start()
    try:
        yield iter(buffer)
    finally:
        buffer.abandon()
        thread.join()
