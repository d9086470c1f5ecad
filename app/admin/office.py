"""Settings and connections of the commands, the same as those of the front end's background process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import redis
import redis.asyncio

from app.contract import keys
from app.contract.jobs import JobRecord
from app.contract.uploads import UploadStore
from app.jobs.queueing import Queueing
from app.jobs.store import JobStore
from app.services import REDIS_TIMEOUT_S
from app.settings import Settings

BATCH = 500


class CannotError(Exception):
    """The operation is not possible; the message is one line with the reason."""


@dataclass(frozen=True)
class Office:
    """One instance of each."""

    settings: Settings
    redis: redis.asyncio.Redis
    queueing: Queueing
    uploads: UploadStore
    jobs: JobStore

    async def record(self, job_id: str) -> JobRecord:
        """Any owner's job.  Raises: CannotError, UnreadableRecordError."""
        fields = await self.redis.hgetall(keys.job(job_id)) if keys.JOB_ID.fullmatch(job_id) else {}
        if not fields:
            raise CannotError(f"no job {job_id}")
        return JobRecord.from_hash(cast(dict[bytes, bytes], fields))

    async def records(self, owner: str | None = None) -> AsyncIterator[JobRecord]:
        """All jobs of one owner or of all, except records that this release cannot read."""
        index = keys.jobs(owner or "")
        async for name in self.redis.scan_iter(match=f"{keys.JOBS}*", count=BATCH):
            if owner is not None and name.decode() != index:
                continue
            for job_id in cast(list[bytes], await self.redis.zrevrange(name, 0, -1)):
                if fields := await self.redis.hgetall(keys.job(job_id.decode())):
                    yield JobRecord.from_hash(cast(dict[bytes, bytes], fields))


@asynccontextmanager
async def open_office(settings: Settings) -> AsyncIterator[Office]:
    """Create the connections; Redis is contacted by the first command."""
    timeouts: dict[str, Any] = {"socket_timeout": REDIS_TIMEOUT_S, "socket_connect_timeout": REDIS_TIMEOUT_S}
    connection = redis.asyncio.Redis.from_url(settings.redis_url, **timeouts)
    writer = redis.Redis.from_url(settings.redis_url, **timeouts)
    try:
        uploads = UploadStore(settings.uploads)
        queueing = Queueing(writer, connection)
        yield Office(
            settings, connection, queueing, uploads, JobStore(connection, queueing, uploads, settings.result_ttl_s)
        )
    finally:
        writer.close()
        await connection.aclose()
