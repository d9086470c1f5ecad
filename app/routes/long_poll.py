"""Long polling: a response that waits for a change."""

from __future__ import annotations

import time
from collections.abc import Callable

from app.contract.jobs import ENDED, JobRecord
from app.jobs.store import Seen
from app.services import Services


async def wait_until(services: Services, record: JobRecord, seconds: float, done: Callable[[JobRecord], bool]) -> Seen:
    """The job as soon as it is `done`, at most after `seconds`.  Raises: NotFound if it is deleted meanwhile."""
    deadline = time.monotonic() + seconds
    with services.changes.subscribe(record.id) as waiter:
        while True:
            seen = await services.jobs.look(record.id, record.owner)
            remaining = deadline - time.monotonic()
            if done(seen.record) or remaining <= 0 or not await waiter.wait(remaining):
                return seen


def has_ended(record: JobRecord) -> bool:
    """Whether the job has ended."""
    return record.state in ENDED
