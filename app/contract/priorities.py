"""Two queues a bundle: `batch` jobs wait in the bundle's own, `interactive` ones in a second beside it.

A worker takes from one queue at a time, so that RQ's crash-safe pop stays, and from the second `TURNS` times as often:
neither waits for ever.  Workers of 0.1.0 do not know the second queue: its jobs wait for a later one.
"""

from __future__ import annotations

from typing import Literal

Priority = Literal["batch", "interactive"]
INTERACTIVE = ":interactive"  # ends the name of the second queue
TURNS = 4  # jobs of the second queue for each of the first, where both have some


def queue_for(queue: str, priority: Priority) -> str:
    """Where a bundle's job waits.  queue: the bundle's own."""
    return queue + INTERACTIVE if priority == "interactive" else queue


def queue_beside(queue: str) -> str:
    """The other queue of the same bundle."""
    return queue.removesuffix(INTERACTIVE) if queue.endswith(INTERACTIVE) else queue + INTERACTIVE


def jobs_before(queue: str, position: int, beside: int) -> int:
    """How many jobs run before the one at this position of its queue.  beside: jobs in the other queue."""
    return position + min(beside, position // TURNS if queue.endswith(INTERACTIVE) else TURNS * (position + 1))
