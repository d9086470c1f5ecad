"""Two queues per bundle: `batch` jobs wait in the bundle's own queue, `interactive` ones in a second queue.

A worker pops from one queue at a time, because only then is RQ's pop crash-safe, and from the second `TURNS` times as
often, so that neither starves.  Workers of 0.1.0 do not know the second queue: its jobs wait for a newer worker.
"""

from __future__ import annotations

from typing import Literal

Priority = Literal["batch", "interactive"]
INTERACTIVE = ":interactive"  # suffix of the second queue's name
TURNS = 4  # jobs of the second queue per job of the first, while both have some


def queue_for(queue: str, priority: Priority) -> str:
    """The queue of a job.  queue: the bundle's own."""
    return queue + INTERACTIVE if priority == "interactive" else queue


def queue_beside(queue: str) -> str:
    """The other queue of the same bundle."""
    return queue.removesuffix(INTERACTIVE) if queue.endswith(INTERACTIVE) else queue + INTERACTIVE


def jobs_before(queue: str, position: int, beside: int) -> int:
    """The number of jobs that run before the one at this position of its queue.  beside: jobs in the other queue."""
    return position + min(beside, position // TURNS if queue.endswith(INTERACTIVE) else TURNS * (position + 1))
