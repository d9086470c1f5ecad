"""Manual operations on jobs: find, requeue, fail, purge, verify."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import cast

from app.admin.office import CannotError, Office
from app.contract import chunks, keys
from app.contract.jobs import ENDED, JobError, JobRecord, ending, to_pairs
from app.contract.scripts import transitions

BY_OPERATOR = JobError(code="internal", detail="the operator ended it; submit it again later")


async def find(office: Office, words: str) -> AsyncIterator[JobRecord]:
    """Jobs with this in their name or at the start of their id, in any case."""
    async for record in office.records():
        if words.casefold() in (record.name or "").casefold() or record.id.startswith(words.casefold()):
            yield record


async def requeue(office: Office, record: JobRecord) -> str:
    """Put a job back into its queue -> what was done.  Raises: CannotError if its input was deleted."""
    if record.state == "queued":
        if await office.redis.lpos(keys.rq_queue(record.queue), record.id) is None:
            raise CannotError("the job is in no queue: recovery requeues it within seconds, if a front end runs")
        return "the job is already waiting"
    if not await asyncio.to_thread(office.uploads.exists, record.id):
        raise CannotError("its input was deleted (only keep_input keeps it): submit it again")
    script = transitions.REOPEN if record.state in ENDED else transitions.HAND_BACK
    if record.state in ENDED:
        await office.queueing.restore(record.queue, record.id)
        arguments: list[str] = [record.id, keys.frames(record.id, ""), keys.changed(record.id), record.queue]
    else:
        if await office.redis.exists(keys.rq_job(record.id)) == 0:
            await office.queueing.restore(record.queue, record.id)
        canceled = json.dumps(to_pairs(ending("canceled", office.settings.result_ttl_s)))
        arguments = [record.execution, record.id, keys.frames(record.id, ""), keys.changed(record.id), ""]
        arguments += [str(office.settings.result_ttl_s), canceled, ""]
    touched = [keys.job(record.id), keys.rq_queue(record.queue), keys.rq_job(record.id)]
    answer = bytes(await office.redis.eval(script, len(touched), *touched, *arguments)).decode()
    if answer != "ok":
        raise CannotError(f"the job changed meanwhile ({answer}); try again")
    return "the job waits at the front of its queue, without charge"


async def fail(office: Office, record: JobRecord) -> str:
    """End a waiting or running job as failed -> what was done.  Raises: CannotError."""
    if record.state in ENDED:
        raise CannotError(f"the job has already ended: {record.state}")
    if record.state == "queued":
        if not await office.jobs.fail_waiting(record, BY_OPERATOR):
            raise CannotError("a worker has just taken it; try again")
        return "the job is failed"
    ttl_s = office.settings.result_ttl_s
    drops = not record.options.keep_input
    ended = ending("failed", ttl_s, error=BY_OPERATOR.model_dump(), input_deleted=drops)
    # The same steps as a worker: seal, delete the input, finish.  The worker then loses its lease.
    sealed = [keys.job(record.id), keys.whole(record.id, record.execution)]
    sealed += [record.execution, str(ttl_s), json.dumps(to_pairs(ended)), ""]
    answer = bytes(await office.redis.eval(transitions.SEAL, 2, *sealed)).decode()
    if answer != "ok":
        raise CannotError(f"the job changed meanwhile ({answer}); try again")
    if drops:
        await asyncio.to_thread(office.uploads.delete, record.id)
    touched = [keys.job(record.id), keys.frames(record.id, record.execution)]
    await office.redis.eval(transitions.FINISH, 2, *touched, record.execution, keys.changed(record.id))
    return "the job is failed"


async def purge(office: Office, owner: str) -> int:
    """Remove all jobs of an owner, with inputs and results -> how many."""
    records = [record async for record in office.records(owner)]
    for record in records:
        await office.jobs.delete(record)
    return len(records)


async def verify(office: Office) -> list[str]:
    """Inconsistencies between records, results and the upload store, a line each."""
    wrong: list[str] = []
    known: set[str] = set()
    async for record in office.records():
        known.add(record.id)
        kept = record.options.keep_input and not record.input_deleted
        if (record.state not in ENDED or kept) and not await asyncio.to_thread(office.uploads.exists, record.id):
            wrong.append(f"{record.id} {record.state}: its input is not in the store")
        if record.state == "succeeded":
            key = keys.frames(record.id, record.execution)
            count, last = await office.redis.llen(key), cast(bytes | None, await office.redis.lindex(key, -1))
            frames = (count - 1) * chunks.CHUNK_FRAMES + len(chunks.decode(last)) if last else 0
            if frames != record.progress.frames_done:
                wrong.append(f"{record.id} succeeded: {frames} records of {record.progress.frames_done} are stored")
        if (record.state in ENDED) == bool(await office.redis.hexists(keys.OPEN, record.id)):
            wrong.append(f"{record.id} {record.state}: recovery {'tracks' if record.state in ENDED else 'misses'} it")
    stored = set(await asyncio.to_thread(office.uploads.job_ids)) - known
    orphans = [job_id for job_id in sorted(stored) if not await office.redis.exists(keys.upload(job_id))]
    return wrong + [f"{job_id}: files without a record (the sweep removes them)" for job_id in orphans]
