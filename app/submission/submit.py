"""From a request to a queued job."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from fastapi import Request
from redis.exceptions import RedisError

from app.contract import heartbeats, keys
from app.contract.jobs import InputInfo, JobRecord, ModelRef, utc_now
from app.contract.naming import Naming
from app.contract.options import JobOptions
from app.contract.priorities import queue_for
from app.contract.sources import Source
from app.jobs.admission import check_queues, check_room
from app.jobs.quotas import check_quota
from app.jobs.store import UndecidedError
from app.services import Services
from app.submission import idempotency
from app.submission.address import check_source, name_of_url
from app.submission.adoption import Submission, adopt
from app.submission.bundle import Bundle, Bundles
from app.submission.fields import OptionFields
from app.submission.inbox import Inbox
from app.submission.receive import receive
from app.webhooks.targets import check_target


@dataclass(frozen=True)
class Wanted:
    """A validated submission."""

    options: JobOptions
    naming: Naming
    source: Source
    bundle: Bundle


async def submit(request: Request, services: Services, owner: str) -> Submission:
    """Receive the body and queue its job.  A failure or a disconnect leaves nothing.

    Raises: a ProblemError with the fault of the request; OSError, RedisError.
    """
    key = idempotency.redis_key(request.headers.get(idempotency.HEADER), owner)
    await check_room(services.redis)
    size = request.headers.get("content-length", "")
    await check_quota(services.redis, services.settings, owner, int(size) if size.isdecimal() else 0)
    bundles = Bundles(services.registry, services.settings)
    await _refuse_if_full(request, services, bundles, key)
    job_id = uuid.uuid4().hex
    inbox = Inbox(services.uploads, job_id)
    try:
        async with _under_way(services, job_id):
            wanted = await _receive(request, services, bundles, inbox)
            make = partial(_make, request, services, owner, key, wanted)
            if wanted.source.upload:
                made = await adopt(services, owner, wanted.source.upload, key, wanted.options, inbox, make)
            elif url := wanted.source.url:
                made = await make(job_id, "", InputInfo(kind="video", bytes=0, sha256=""), name_of_url(url))
            else:
                made = await make(job_id, *await inbox.commit())
    except UndecidedError:  # the job was created and is complete, or its input will be swept
        raise
    except BaseException:
        await asyncio.shield(inbox.abort())
        raise
    if made.replayed:
        await inbox.abort()
    return made


async def _refuse_if_full(request: Request, services: Services, bundles: Bundles, key: str) -> None:
    """An early check before the body, if the job's queue is known; the check when the job is created is decisive.

    Raises: QueueFull.
    """
    if key and await services.redis.exists(key):  # its job may exist already
        return
    queues = {services.settings.default_queue}
    if named := request.query_params.get("model"):
        queues = {(await bundles.of(named)).queue}
    is_form = request.headers.get("content-type", "").startswith("multipart/")  # the body may name any model
    if is_form and not named:
        queues |= {info.queue for info in await services.registry.models()}
    if request.query_params.get("priority") == "interactive":
        queues = {queue_for(queue, "interactive") for queue in queues}
    elif is_form:
        queues |= {queue_for(queue, "interactive") for queue in queues}
    await check_queues(services.queueing, queues, services.settings.max_queue)


async def _receive(request: Request, services: Services, bundles: Bundles, inbox: Inbox) -> Wanted:
    """Receive the whole body: its content goes into the inbox, everything else is returned."""
    fields = OptionFields()

    async def check(name: str, value: str) -> None:
        if name == "model":
            await bundles.of(value)
        if name == "url":
            check_source(value, services.settings)
        if name == "callback_url":
            check_target(value, services.settings)

    await receive(request, inbox, fields, services.settings, check)
    options = fields.finish()
    bundle = await bundles.of(options.model)
    bundle.check(options)
    return Wanted(options, fields.naming(), fields.source(), bundle)


async def _make(
    request: Request,
    services: Services,
    owner: str,
    key: str,
    wanted: Wanted,
    job_id: str,
    media: str,
    sizes: InputInfo,
    file_name: str = "",
) -> Submission:
    """The job of a stored input, or the job that another request with the same key created."""
    record = _record(services, job_id, owner, wanted.bundle, wanted.options, media, sizes)
    naming = wanted.naming
    record.name, record.metadata, record.batch = naming.name or file_name or None, naming.metadata, naming.batch
    record.request_id = request.scope.get("request_id", "")
    record.idempotency = key
    if wanted.source.url:
        record.url, record.stage = wanted.source.url, "fetching"
    made = await _create_once(services, record)
    if made == job_id:
        return Submission(record, replayed=False)
    return Submission(await services.jobs.get(made, owner), replayed=True)


async def _create_once(services: Services, record: JobRecord) -> str:
    """Create the job, unless another request with the same key has.  Returns the job's id."""
    key = record.idempotency
    if key:
        print_ = idempotency.fingerprint(record.options, record.input, record.url)
        former = await idempotency.claim(services.redis, key, print_, record.id)
        if former is not None:
            return former
    try:
        make = services.jobs.create_fetching if record.url else services.jobs.create
        await make(record, services.settings.max_queue)
    except UndecidedError:
        raise
    except BaseException:
        if key:
            await asyncio.shield(idempotency.release(services.redis, key, record.id))
        raise
    return record.id


@asynccontextmanager
async def _under_way(services: Services, job_id: str) -> AsyncIterator[None]:
    """Send an upload's heartbeat inside the block, which protects its files from the sweep."""

    ttl_ms = round(1000 * heartbeats.UPLOAD_TTL * services.settings.heartbeat_s)

    async def beat() -> None:
        while True:
            await asyncio.sleep(heartbeats.UPLOAD * services.settings.heartbeat_s)
            with suppress(RedisError):  # the next heartbeat may succeed
                await services.redis.set(keys.upload(job_id), "1", px=ttl_ms)

    await services.redis.set(keys.upload(job_id), "1", px=ttl_ms)
    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(RedisError):  # it expires, and its failure must not undo a created job
            await services.redis.delete(keys.upload(job_id))


def _record(
    services: Services, job_id: str, owner: str, bundle: Bundle, options: JobOptions, media: str, received: InputInfo
) -> JobRecord:
    now = utc_now()
    worker = bundle.worker
    return JobRecord(
        id=job_id,
        owner=owner,
        queue=queue_for(bundle.queue, options.priority),
        media=media,
        created_at=now,
        expires_at=now + timedelta(seconds=services.settings.result_ttl_s),
        options=options,
        model=ModelRef(name=bundle.name, version=worker.version if worker else None),
        labels=bundle.info.labels if bundle.info and worker else None,
        detector=worker.detector if worker else None,
        prior=bundle.prior(options) if worker else None,
        input=received,
        callback=str(options.callback_url or ""),
    )
