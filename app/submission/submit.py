"""From a request to a queued job."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from fastapi import Request
from redis.exceptions import RedisError

from app.contract import keys
from app.contract.jobs import InputInfo, JobRecord, ModelRef, utc_now
from app.contract.options import JobOptions
from app.contract.workers import ModelInfo
from app.http.errors import InvalidOption
from app.jobs.admission import check_queues, check_room
from app.jobs.store import UndecidedError
from app.services import Services
from app.submission import idempotency
from app.submission.fields import OptionFields
from app.submission.inbox import Inbox
from app.submission.receive import receive
from app.webhooks.targets import check_target

# An upload's own heartbeat, in those of workers: a minute, and five of silence until it counts as dead.
UPLOAD_BEATS, UPLOAD_TTL_BEATS = 12, 60


@dataclass(frozen=True)
class Submission:
    """A queued job.  replayed: another request with the same Idempotency-Key had made it."""

    record: JobRecord
    replayed: bool


async def submit(request: Request, services: Services, owner: str) -> Submission:
    """Take the body in, and queue a job for it.  What fails, or whose client goes away, leaves nothing.

    Raises: a ProblemError that says what is wrong with the request; OSError, RedisError.
    """
    key = idempotency.redis_key(request.headers.get(idempotency.HEADER), owner)
    await check_room(services.redis)
    await _refuse_if_full(request, services, key)
    job_id = uuid.uuid4().hex
    inbox = Inbox(services.uploads, job_id)
    try:
        async with _under_way(services, job_id):
            options = await _receive(request, services, inbox)
            media, received = await inbox.commit()
            record = await _record(services, job_id, owner, options, media, received)
            record.request_id = request.scope.get("request_id", "")
            record.idempotency = key
            made = await _create_once(services, record)
    except UndecidedError:  # if the job was made it is done; if not, its input is swept
        raise
    except BaseException:
        await asyncio.shield(inbox.abort())
        raise
    if made == job_id:
        return Submission(record, replayed=False)
    await inbox.abort()
    return Submission(await services.jobs.get(made, owner), replayed=True)


async def _refuse_if_full(request: Request, services: Services, key: str) -> None:
    """Before the body, as far as it is known in which queue the job would wait; when it is made, that is said for sure.

    Raises: QueueFull.
    """
    if key and await services.redis.exists(key):  # its job may be there already
        return
    queues = {services.settings.default_queue}
    if named := request.query_params.get("model"):
        info = await _known_model(services, named)
        queues = {info.queue} if info else queues
    elif request.headers.get("content-type", "").startswith("multipart/"):  # the form may name any
        queues |= {info.queue for info in await services.registry.models()}
    await check_queues(services.queueing, queues, services.settings.max_queue)


async def _receive(request: Request, services: Services, inbox: Inbox) -> JobOptions:
    """The whole body: its content goes into the inbox, its options are returned, checked."""
    fields = OptionFields()

    async def check(name: str, value: str) -> None:
        if name == "model":
            await _known_model(services, value)
        if name == "callback_url":
            check_target(value, services.settings)

    await receive(request, inbox, fields, services.settings, check)
    options = fields.finish()
    _check_members(options, await _known_model(services, options.model))
    return options


async def _create_once(services: Services, record: JobRecord) -> str:
    """Make the job, unless another request with the same key has made it.  -> id of the job that there is now."""
    key = record.idempotency
    if key:
        print_ = idempotency.fingerprint(record.options, record.input)
        former = await idempotency.claim(services.redis, key, print_, record.id)
        if former is not None:
            return former
    try:
        await services.jobs.create(record, services.settings.max_queue)
    except UndecidedError:
        raise
    except BaseException:
        if key:
            await asyncio.shield(idempotency.release(services.redis, key, record.id))
        raise
    return record.id


@asynccontextmanager
async def _under_way(services: Services, job_id: str) -> AsyncIterator[None]:
    """Say that an upload is on its way, so that what it has stored is not swept."""

    ttl_ms = round(1000 * UPLOAD_TTL_BEATS * services.settings.heartbeat_s)

    async def beat() -> None:
        while True:
            await asyncio.sleep(UPLOAD_BEATS * services.settings.heartbeat_s)
            with suppress(RedisError):  # the next one may get through
                await services.redis.set(keys.upload(job_id), "1", px=ttl_ms)

    await services.redis.set(keys.upload(job_id), "1", px=ttl_ms)
    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(RedisError):  # it expires by itself, and must not undo a job that was made
            await services.redis.delete(keys.upload(job_id))


def _check_members(options: JobOptions, info: ModelInfo | None) -> None:
    """Raises: InvalidOption if the bundle lacks one of the members asked for."""
    if info is None or options.members is None:
        return
    served = [member.name for member in info.members]
    for name in options.members:
        if name not in served:
            has = ", ".join(served)
            raise InvalidOption(f"Model {info.name!r} has no member {name!r}; it has {has}.", field="members")


async def _known_model(services: Services, name: str | None) -> ModelInfo | None:
    """What is known of the named bundle, or of the default; the default may be unknown while no worker was alive.

    The default also goes by its folder's name, which need not be the bundle's own: the folder's makes the queue.

    Raises: InvalidOption if it is another and unknown, or if its queue is another bundle's by now.
    """
    named = await services.registry.model(name) if name else None
    default_queue = services.settings.default_queue
    if named is None and name in {None, services.settings.bundle_name}:
        return await services.registry.serving(default_queue)
    serving = await services.registry.serving(named.queue) if named else None
    if named is None or (serving is not None and serving.name != named.name):
        raise InvalidOption(f"There is no model {str(name)[:64]!r}; /v1/models lists those served.", field="model")
    return named


async def _record(
    services: Services, job_id: str, owner: str, options: JobOptions, media: str, received: InputInfo
) -> JobRecord:
    info = await _known_model(services, options.model)
    queue = info.queue if info else services.settings.default_queue
    serving = next((w for w in await services.registry.live_workers() if w.queue == queue), None)
    now = utc_now()
    return JobRecord(
        id=job_id,
        owner=owner,
        queue=queue,
        media=media,
        created_at=now,
        expires_at=now + timedelta(seconds=services.settings.result_ttl_s),
        options=options,
        model=ModelRef(
            name=info.name if info else services.settings.bundle_name, version=serving.version if serving else None
        ),
        labels=info.labels if info and serving else None,
        detector=serving.detector if serving else None,
        input=received,
        callback=str(options.callback_url or ""),
    )
