"""The front end's interface to RQ: enqueue, remove, position.

RQ's own client is synchronous, so its calls run in threads; reads use the asynchronous client.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import cast

import redis
import redis.asyncio
from redis.client import Pipeline
from redis.exceptions import WatchError
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job as RqJob
from rq.job import JobStatus
from rq.serializers import JSONSerializer

from app.contract import keys
from app.contract.jobs import JOB_TIMEOUT_S, RENDER_TIMEOUT_S, JobRecord
from app.contract.priorities import jobs_before, queue_beside
from app.contract.renditions import THUMBNAIL, VIDEO, Rendition
from app.http.errors import queue_full

# Mien's own hash is the job's record: RQ's is deleted when the job ends, or soon after a failure.
RQ_RESULT_TTL_S = 0
RQ_FAILURE_TTL_S = 60


class Queueing:
    """The queues of all bundles."""

    def __init__(self, connection: redis.Redis, reader: redis.asyncio.Redis) -> None:
        self._connection = connection
        self._reader = reader

    async def create(self, record: JobRecord, write: Callable[[Pipeline], None], max_queue: int = 0) -> None:
        """Enqueue a labelling job, in one transaction with the commands that `write` adds.

        Raises: QueueFull if `max_queue` jobs are waiting (0: no limit); RedisError, after which usually nothing was
        written, but the connection may also have broken after the transaction.
        """
        await asyncio.to_thread(self._create, record, write, max_queue)

    async def create_waiting(self, record: JobRecord, write: Callable[[Pipeline], None]) -> bool:
        """Enqueue a job whose record exists, if it waits for its input -> whether it did.  Raises: RedisError."""
        return await asyncio.to_thread(self._create_waiting, record, write)

    async def restore(self, queue: str, job_id: str) -> None:
        """Write RQ's record of a labelling job again, without enqueueing it.  Raises: RedisError."""
        await asyncio.to_thread(self._restore, queue, job_id)

    async def enqueue_render(self, rendition: Rendition, job_id: str, seen: bytes, ttl_s: int) -> None:
        """Enqueue a job's rendition, in one transaction with its state, whose time to live is `ttl_s`.

        seen: the state that the caller saw, b"" for none; if it has changed meanwhile, nothing is done.
        Raises: RedisError.
        """
        await asyncio.to_thread(self._enqueue_render, rendition, job_id, seen, ttl_s)

    async def remove(self, record: JobRecord) -> bool:
        """Remove a job, and its RQ record unless a worker has it -> whether it was waiting."""
        return await asyncio.to_thread(self._remove, record.queue, record.id)

    async def depth(self, queue: str) -> int:
        """The number of waiting jobs."""
        return int(await self._reader.llen(keys.rq_queue(queue)))

    async def positions(self, queues: Iterable[str]) -> dict[str, int]:
        """For each waiting job of the queues, the number of jobs that run before it."""
        found: dict[str, int] = {}
        for queue in queues:
            waiting = cast(list[bytes], await self._reader.lrange(keys.rq_queue(queue), 0, -1))
            beside = await self.depth(queue_beside(queue))
            found |= {job_id.decode(): jobs_before(queue, place, beside) for place, job_id in enumerate(waiting)}
        return found

    async def oldest(self, queue: str) -> str | None:
        """The job that runs next."""
        found = cast(bytes | None, await self._reader.lindex(keys.rq_queue(queue), 0))
        return None if found is None else found.decode()

    def _queue(self, name: str) -> Queue:
        return Queue(name, connection=self._connection, serializer=JSONSerializer)

    def _create(self, record: JobRecord, write: Callable[[Pipeline], None], max_queue: int) -> None:
        queue = self._queue(record.queue)
        with self._connection.pipeline(transaction=True) as pipe:
            for tried in itertools.count():
                if max_queue:
                    pipe.watch(queue.key)  # type: ignore[no-untyped-call]
                    if tried and pipe.exists(keys.job(record.id)):
                        return  # done, but the connection broke before the reply
                    if pipe.llen(queue.key) >= max_queue:
                        raise queue_full(max_queue)
                    pipe.multi()
                queue.enqueue_job(_labelling(queue, record.id), pipeline=pipe)
                write(pipe)
                with suppress(WatchError):  # the queue has changed, or the connection broke: count again
                    pipe.execute()
                    return

    def _create_waiting(self, record: JobRecord, write: Callable[[Pipeline], None]) -> bool:
        queue, key = self._queue(record.queue), keys.job(record.id)
        with self._connection.pipeline(transaction=True) as pipe:
            while True:
                pipe.watch(key)  # type: ignore[no-untyped-call]
                if pipe.hmget(key, "state", "stage") != [b"queued", b"fetching"]:
                    return False
                pipe.multi()
                queue.enqueue_job(_labelling(queue, record.id), pipeline=pipe)
                write(pipe)
                with suppress(WatchError):  # it was cancelled, or renamed
                    pipe.execute()
                    return True

    def _restore(self, queue: str, job_id: str) -> None:
        _labelling(self._queue(queue), job_id).save()

    def _enqueue_render(self, rendition: Rendition, job_id: str, seen: bytes, ttl_s: int) -> None:
        said = rendition.key(job_id)
        with self._connection.pipeline(transaction=True) as pipe:
            pipe.watch(said)  # type: ignore[no-untyped-call]
            if (pipe.hget(said, "state") or b"") != seen:
                return
            pipe.multi()
            pipe.hset(said, "state", "queued")
            pipe.expire(said, ttl_s)  # the state of a renderer that dies expires
            self._queue(keys.RENDER_QUEUE).enqueue_call(
                # Renderers of 0.1.0 know no other name, and a refused rendition would not be requested again.
                keys.FORMER_RENDER_FUNCTION if rendition is VIDEO else rendition.function,
                args=(job_id,),
                timeout=RENDER_TIMEOUT_S,
                result_ttl=RQ_RESULT_TTL_S,
                failure_ttl=RQ_FAILURE_TTL_S,
                description=f"{rendition.name} {job_id}",
                job_id=rendition.rq_id(job_id),
                at_front=rendition is THUMBNAIL,  # short, and lists of jobs wait for it
                pipeline=pipe,
            )
            with suppress(WatchError):
                pipe.execute()

    def _remove(self, queue: str, job_id: str) -> bool:
        waited = self._connection.lrem(keys.rq_queue(queue), 0, job_id)
        with suppress(NoSuchJobError):
            job = RqJob.fetch(job_id, connection=self._connection, serializer=JSONSerializer)
            # The worker of a running job removes its record itself; if removed here, it would be recreated incomplete.
            if waited or job.get_status(refresh=False) != JobStatus.STARTED:
                job.delete()
        return bool(waited)


def _labelling(queue: Queue, job_id: str) -> RqJob:
    return queue.create_job(
        keys.LABEL_FUNCTION,
        args=(job_id,),
        timeout=JOB_TIMEOUT_S,
        result_ttl=RQ_RESULT_TTL_S,
        failure_ttl=RQ_FAILURE_TTL_S,
        description=f"label {job_id}",
        job_id=job_id,
    )
