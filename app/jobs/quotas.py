"""Quotas of each API key: queued jobs, and bytes and frames in a day (UTC).

Bytes are counted when a job is created, frames when it ends, by the script that ends it.
"""

from __future__ import annotations

import time
from typing import cast

import redis.asyncio

from app.contract import keys
from app.http.errors import QuotaExceeded
from app.settings import Settings

DAY_S = 86_400
JOBS_RETRY_S = 10


def today() -> int:
    """The current day (UTC), in days since the epoch."""
    return int(time.time() // DAY_S)


async def check_quota(connection: redis.asyncio.Redis, settings: Settings, owner: str, size: int) -> None:
    """Check all quotas; without API keys there are none.  size: declared bytes of the body.

    Raises: QuotaExceeded if a quota of the key's owner is used up.
    """
    if not owner:
        return
    if settings.quota_jobs and await _waiting(connection, owner, settings.quota_jobs) >= settings.quota_jobs:
        raise _exceeded(f"{settings.quota_jobs} of your jobs are already waiting", JOBS_RETRY_S)
    if not (settings.quota_bytes or settings.quota_frames):
        return
    values = await connection.hmget(keys.quota(owner, today()), "bytes", "frames")
    used_bytes, used_frames = (int(value or 0) for value in values)
    left_s = round(DAY_S - time.time() % DAY_S)
    if settings.quota_bytes and used_bytes + size > settings.quota_bytes:
        raise _exceeded(f"more than {settings.quota_bytes} bytes a day (UTC); {used_bytes} are used", left_s)
    if settings.quota_frames and used_frames >= settings.quota_frames:
        raise _exceeded(f"{settings.quota_frames} frames a day (UTC) are labelled", left_s)


async def _waiting(connection: redis.asyncio.Redis, owner: str, enough: int) -> int:
    """The number of the owner's queued jobs, or an upper bound below `enough`."""
    fetching = cast(list[bytes], await connection.zrange(keys.FETCHES, 0, -1))
    opened = [*fetching, *cast(list[bytes], await connection.hkeys(keys.OPEN))]
    if len(opened) < enough:
        return len(opened)
    async with connection.pipeline(transaction=False) as pipe:
        for job_id in opened:
            pipe.hmget(keys.job(job_id.decode()), "owner", "state")
        found = await pipe.execute()
    return found.count([owner.encode(), b"queued"])


def _exceeded(what: str, retry_s: int) -> QuotaExceeded:
    return QuotaExceeded(f"Your quota is used up: {what}.", headers={"Retry-After": str(retry_s)})
