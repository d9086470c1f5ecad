"""Queue timeout: ends jobs that no worker takes.

Otherwise, jobs of a bundle without workers would stay queued, with their input, indefinitely.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import cast

import redis.asyncio
import structlog

from app.contract import heartbeats, keys
from app.contract.jobs import JobError, JobRecord, UnreadableRecordError, utc_now
from app.contract.settings import SharedSettings
from app.jobs.store import JobStore

LONGEST_WAIT_S = 86_400  # or the time to live of results, if longer

log = structlog.get_logger(__name__)


class QueueTimeout:
    """Fails jobs that are queued for too long.  Any number of processes may run it concurrently."""

    def __init__(self, connection: redis.asyncio.Redis, jobs: JobStore, settings: SharedSettings) -> None:
        self._redis = connection
        self._jobs = jobs
        self.every_s = heartbeats.UPKEEP * settings.heartbeat_s
        self._longest = timedelta(seconds=max(LONGEST_WAIT_S, settings.result_ttl_s))

    async def look(self) -> None:
        """One round."""
        opened = [job_id.decode() for job_id in cast(list[bytes], await self._redis.hkeys(keys.OPEN))]
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in opened:
                pipe.hmget(keys.job(job_id), "state", "created_at", "started_at")
            found = cast(list[list[bytes | None]], await pipe.execute())
        for job_id, (state, *times) in zip(opened, found, strict=True):
            # A job that was queued again has waited since its last start, not its creation.
            since = max((datetime.fromisoformat(time.decode()) for time in times if time), default=None)
            if state == b"queued" and since is not None and utc_now() - since > self._longest:
                try:
                    await self._give_up(job_id)
                except UnreadableRecordError as error:  # left to a front end that reads it
                    log.error("job_unreadable", job_id=job_id, why=str(error))

    async def _give_up(self, job_id: str) -> None:
        fields = cast(dict[bytes, bytes], await self._redis.hgetall(keys.job(job_id)))
        if not fields:
            return
        hours = round(self._longest / timedelta(hours=1))
        error = JobError(code="not_started", detail=f"no worker took it for {hours} hours; submit it again later")
        record = JobRecord.from_hash(fields)
        if await self._jobs.fail_waiting(record, error):
            log.warning("job_not_started", job_id=job_id, queue=record.queue, request_id=record.request_id)
