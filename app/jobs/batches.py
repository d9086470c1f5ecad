"""Batches: an owner's jobs with the same `batch`, oldest first.  A batch exists as long as one of its jobs."""

from __future__ import annotations

from typing import cast

import redis.asyncio

from app.contract import keys
from app.contract.jobs import JobRecord, State
from app.jobs.listing import records_of

READ = 500  # jobs read in one round trip


async def job_ids(connection: redis.asyncio.Redis, owner: str, name: str) -> list[str]:
    """Ids of the batch's jobs, including expired ones."""
    return [job_id.decode() for job_id in cast(list[bytes], await connection.zrange(keys.batch(owner, name), 0, -1))]


async def states(connection: redis.asyncio.Redis, owner: str, name: str) -> list[State]:
    """The state of each of the batch's jobs."""
    ids = await job_ids(connection, owner, name)
    async with connection.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.hget(keys.job(job_id), "state")
        found = cast(list[bytes | None], await pipe.execute()) if ids else []
    return [cast(State, state.decode()) for state in found if state is not None]


async def records(connection: redis.asyncio.Redis, owner: str, name: str) -> list[JobRecord]:
    """The batch's jobs."""
    ids = await job_ids(connection, owner, name)
    found: list[JobRecord] = []
    for start in range(0, len(ids), READ):
        known = await records_of(connection, ids[start : start + READ])
        found += [record for record in known.values() if record is not None]
    return found
