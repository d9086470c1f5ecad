"""RQ as the front end sees it: put a job in, take it out, say where it stands.

RQ's own client is synchronous, so its calls run in threads; what only reads goes through the asynchronous client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import cast

import redis
import redis.asyncio
from redis.exceptions import RedisError
from rq import Queue, Retry
from rq.exceptions import NoSuchJobError
from rq.job import Job as RqJob
from rq.job import JobStatus
from rq.serializers import JSONSerializer

from app.contract import keys
from app.contract.jobs import CRASH_RETRIES, JOB_TIMEOUT_S, RENDER_TIMEOUT_S, JobRecord

# Mien's own hash is the record of a job: RQ's goes when the job ends, or soon after where it failed.
RQ_RESULT_TTL_S = 0
RQ_FAILURE_TTL_S = 60


class Queueing:
    """The queues of all bundles."""

    def __init__(self, connection: redis.Redis, reader: redis.asyncio.Redis) -> None:
        self._connection = connection
        self._reader = reader

    async def enqueue(self, record: JobRecord) -> None:
        """Put a labelling job in.  Raises: RedisError; then it is not in the queue."""
        await asyncio.to_thread(self._enqueue, record.queue, record.id)

    async def enqueue_render(self, job_id: str) -> None:
        """Have a job's annotated video made.  Raises: RedisError; then it is not in the queue."""
        await asyncio.to_thread(self._enqueue_render, job_id)

    async def remove(self, record: JobRecord) -> bool:
        """Take a job out, and forget it unless a worker has it.  -> whether it waited."""
        return await asyncio.to_thread(self._remove, record.queue, record.id)

    async def depth(self, queue: str) -> int:
        """Jobs that wait."""
        return int(await self._reader.llen(queue_key(queue)))

    async def positions(self, queues: Iterable[str]) -> dict[str, int]:
        """Position of every job that waits in one of the queues."""
        found: dict[str, int] = {}
        for queue in queues:
            waiting = cast(list[bytes], await self._reader.lrange(queue_key(queue), 0, -1))
            found |= {job_id.decode(): position for position, job_id in enumerate(waiting)}
        return found

    async def oldest(self, queue: str) -> str | None:
        """The job that runs next."""
        found = cast(bytes | None, await self._reader.lindex(queue_key(queue), 0))
        return None if found is None else found.decode()

    def _queue(self, name: str) -> Queue:
        return Queue(name, connection=self._connection, serializer=JSONSerializer)

    def _enqueue(self, queue: str, job_id: str) -> None:
        try:
            self._queue(queue).enqueue_call(
                keys.LABEL_FUNCTION,
                args=(job_id,),
                timeout=JOB_TIMEOUT_S,
                result_ttl=RQ_RESULT_TTL_S,
                failure_ttl=RQ_FAILURE_TTL_S,
                description=f"label {job_id}",
                job_id=job_id,
                retry=Retry(max=CRASH_RETRIES),
            )
        except RedisError:
            with suppress(RedisError):
                self._remove(queue, job_id)
            raise

    def _enqueue_render(self, job_id: str) -> None:
        self._queue(keys.RENDER_QUEUE).enqueue_call(
            keys.RENDER_FUNCTION,
            args=(job_id,),
            timeout=RENDER_TIMEOUT_S,
            result_ttl=RQ_RESULT_TTL_S,
            failure_ttl=RQ_FAILURE_TTL_S,
            description=f"render {job_id}",
            job_id=f"render-{job_id}",
        )

    def _remove(self, queue: str, job_id: str) -> bool:
        waited = self._connection.lrem(queue_key(queue), 0, job_id)
        with suppress(NoSuchJobError):
            job = RqJob.fetch(job_id, connection=self._connection, serializer=JSONSerializer)
            # A running job's record is its worker's, which removes it when it notices: it would come back as a stump.
            if waited or job.get_status(refresh=False) != JobStatus.STARTED:
                job.delete()
        return bool(waited)


def queue_key(queue: str) -> str:
    """RQ's list of the ids that wait in a queue."""
    return f"{Queue.redis_queue_namespace_prefix}{queue}"
