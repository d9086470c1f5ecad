"""Jobs in Redis, as the front end reads and changes them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import redis.asyncio
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from app.contract import keys
from app.contract.jobs import ENDED, InputInfo, JobError, JobRecord, State, ending, to_field, to_pairs
from app.contract.naming import MAX_METADATA, NamingPatch
from app.contract.scripts import transitions
from app.contract.scripts.requests import LOOK, RENAME
from app.contract.uploads import UploadStore
from app.http.errors import Gone, InvalidOption, NotFound, queue_full
from app.jobs.queueing import Queueing
from app.jobs.quotas import today


@dataclass(frozen=True)
class Seen:
    """A snapshot of a job.  position: number of jobs that run first; None if it is not waiting."""

    record: JobRecord
    position: int | None


class UndecidedError(RedisConnectionError):
    """The job may have been created: the connection to Redis broke before the reply.  Its input must stay."""


class JobStore:
    """Records of jobs, with their place in RQ and the upload store."""

    def __init__(self, connection: redis.asyncio.Redis, queueing: Queueing, uploads: UploadStore, ttl_s: int) -> None:
        self._redis = connection
        self._queueing = queueing
        self._uploads = uploads
        self._ttl_s = ttl_s
        self._cancel = connection.register_script(transitions.CANCEL)
        self._forget = connection.register_script(transitions.FORGET)
        self._look = connection.register_script(LOOK)
        self._rename = connection.register_script(RENAME)

    async def get(self, job_id: str, owner: str) -> JobRecord:
        """An owner's job.  Raises: NotFound if it does not exist or belongs to another, Gone if it has expired."""
        return (await self.look(job_id, owner)).record

    async def look(self, job_id: str, owner: str) -> Seen:
        """An owner's job and its place in the queue.  Raises: as `get`."""
        if keys.JOB_ID.fullmatch(job_id):
            flat, position = cast(tuple[list[bytes], int | None], await self._look(keys=[keys.job(job_id)]))
            if flat:
                record = JobRecord.from_hash(dict(zip(flat[::2], flat[1::2], strict=True)))
                if record.owner == owner:
                    return Seen(record, position)
            elif await self._redis.zscore(keys.jobs(owner), job_id) is not None:
                raise Gone("This job and its results have expired.")
        raise NotFound("The job does not exist.")

    async def create(self, record: JobRecord, max_queue: int = 0) -> None:
        """Write a record and queue its job atomically.  The input is stored already.

        Raises: QueueFull if `max_queue` jobs are waiting (0: no limit); UndecidedError;
        other RedisErrors, after which nothing of the job exists.
        """

        def write(pipe: Pipeline) -> None:
            pipe.hset(keys.job(record.id), mapping=cast(Any, record.to_hash()))
            pipe.zadd(keys.jobs(record.owner), {record.id: _milliseconds(record.created_at)})
            if record.batch:
                pipe.zadd(keys.batch(record.owner, record.batch), {record.id: _milliseconds(record.created_at)})
            pipe.hset(keys.OPEN, record.id, record.queue)
            _charge(pipe, record, record.input.bytes)
            if record.idempotency:  # under a short claim until now
                pipe.persist(record.idempotency)  # it expires with the job, whose time to live starts at its end

        making = asyncio.ensure_future(self._queueing.create(record, write, max_queue))
        try:
            await asyncio.shield(making)
        except asyncio.CancelledError:
            await asyncio.wait([making])  # its thread cannot be stopped
            await self._undo(record)
            raise
        except RedisError as error:
            try:
                await self._undo(record)
            except RedisError:
                raise UndecidedError(str(error)) from None
            raise

    async def create_fetching(self, record: JobRecord, max_queue: int) -> None:
        """Write the record of a job whose input must be fetched.  Raises: QueueFull if too many are being fetched."""
        if max_queue and await self._redis.zcard(keys.FETCHES) >= max_queue:
            raise queue_full(max_queue)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.job(record.id), mapping=cast(Any, record.to_hash()))
            pipe.zadd(keys.jobs(record.owner), {record.id: _milliseconds(record.created_at)})
            if record.batch:
                pipe.zadd(keys.batch(record.owner, record.batch), {record.id: _milliseconds(record.created_at)})
            if record.idempotency:
                pipe.persist(record.idempotency)
            pipe.zadd(keys.FETCHES, {record.id: 0})
            await pipe.execute()

    async def fetched(self, record: JobRecord, media: str, received: InputInfo) -> bool:
        """Queue a job whose input has arrived -> whether it was still waiting for it."""
        fields = to_pairs({"media": media, "input": received.model_dump(mode="json"), "progress": {}})

        def write(pipe: Pipeline) -> None:
            pipe.hset(keys.job(record.id), mapping=dict(zip(fields[::2], fields[1::2], strict=True)))
            pipe.hdel(keys.job(record.id), "stage")
            pipe.hincrby(keys.job(record.id), "revision", 1)
            pipe.hset(keys.OPEN, record.id, record.queue)
            pipe.zrem(keys.FETCHES, record.id)
            _charge(pipe, record, received.bytes)
            pipe.publish(keys.changed(record.id), 0)

        return await self._queueing.create_waiting(record, write)

    async def fail_fetching(self, record: JobRecord, error: JobError) -> None:
        """End a job whose input cannot be fetched."""
        await asyncio.to_thread(self._uploads.delete, record.id)
        await self._end(record, "failed", error=error.model_dump())

    async def cancel(self, record: JobRecord) -> str:
        """Cancel a job: a queued one ends at once, a running one when its worker sees it.

        -> canceled | requested | gone, or the state in which it has ended.
        """
        # The job leaves the queue first, so that no worker misses its input; the input goes before the end is visible.
        drops_input = not record.options.keep_input
        waited = record.state == "queued" and await self._queueing.remove(record)
        if waited and drops_input:
            await asyncio.to_thread(self._uploads.delete, record.id)
        word = await self._end(record, "canceled")
        if word == "canceled" and not waited and drops_input:
            await asyncio.to_thread(self._uploads.delete, record.id)
        return word

    async def fail_waiting(self, record: JobRecord, error: JobError) -> bool:
        """End a waiting job as failed -> False, without effect, if a worker has just taken it.

        As in `cancel`, the job leaves the queue first.
        """
        if not await self._queueing.remove(record):
            return False
        if not record.options.keep_input:
            await asyncio.to_thread(self._uploads.delete, record.id)
        await self._end(record, "failed", error=error.model_dump())
        return True

    async def rename(self, record: JobRecord, patch: NamingPatch) -> None:
        """Change a job's name, metadata and persons.

        Raises: Gone if it has expired meanwhile; InvalidOption if there is too much metadata.
        """
        change = patch.model_dump_json(exclude_unset=True, exclude={"persons"})
        # Lua could not tell an empty list from an empty object.
        persons = (
            to_field([note.model_dump() for note in patch.persons or ()]) if "persons" in patch.model_fields_set else ""
        )
        word = await self._rename(keys=[keys.job(record.id)], args=[keys.changed(record.id), change, persons])
        if word == b"gone":
            raise Gone("This job and its results have expired.")
        if word == b"full":
            raise InvalidOption(f"metadata: at most {MAX_METADATA} keys", field="metadata")

    async def delete(self, record: JobRecord) -> None:
        """Remove a job with everything that belongs to it; cancel it first if necessary."""
        if record.state not in ENDED:
            await self.cancel(record)
        await self._queueing.remove(record)
        await asyncio.to_thread(self._uploads.delete, record.id)
        await self._forget_record(record)

    async def _end(self, record: JobRecord, state: State, **fields: Any) -> str:
        ended = ending(state, self._ttl_s, input_deleted=not record.options.keep_input, **fields)
        arguments = [keys.changed(record.id), str(self._ttl_s), *to_pairs(ended)]
        return bytes(await self._cancel(keys=[keys.job(record.id)], args=arguments)).decode()

    async def _undo(self, record: JobRecord) -> None:
        await self._queueing.remove(record)
        await self._forget_record(record)

    async def _forget_record(self, record: JobRecord) -> None:
        batch = [keys.batch(record.owner, record.batch)] if record.batch else []
        await self._forget(
            keys=[keys.job(record.id), keys.jobs(record.owner), *batch],
            args=[keys.changed(record.id), keys.frames(record.id, ""), record.id],
        )


def _charge(pipe: Pipeline, record: JobRecord, count: int) -> None:
    """Add an input's bytes to what its owner has used today."""
    if record.owner:
        used = keys.quota(record.owner, today())
        pipe.hincrby(used, "bytes", count)
        pipe.expire(used, keys.QUOTA_TTL_S)


def _milliseconds(time: datetime) -> int:
    return round(time.astimezone(UTC).timestamp() * 1000)
