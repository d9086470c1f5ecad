"""From a request to a queued job."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta

from fastapi import Request

from app.contract.jobs import InputInfo, JobRecord, MediaType, ModelRef, utc_now
from app.contract.options import JobOptions
from app.contract.settings import queue_name
from app.contract.workers import ModelInfo
from app.errors import InvalidOption
from app.services import Services
from app.submission.fields import OptionFields
from app.submission.inbox import Inbox
from app.submission.receive import receive


async def submit(request: Request, services: Services, owner: str) -> JobRecord:
    """Take the body in, and queue a job for it.  What fails, or whose client goes away, leaves nothing.

    Raises: a ProblemError that says what is wrong with the request; OSError, RedisError.
    """
    job_id = uuid.uuid4().hex
    inbox = Inbox(services.uploads, job_id)
    fields = OptionFields()

    async def check(name: str, value: str) -> None:
        if name == "model":
            await _known_model(services, value)

    try:
        await receive(request, inbox, fields, services.settings.max_upload_bytes, check)
        options = fields.finish()
        info = await _known_model(services, options.model)
        check_members(options, info)
        media, received = await inbox.commit()
        record = await _record(services, job_id, owner, request.scope.get("request_id", ""), options, media, received)
        await services.jobs.create(record)
    except BaseException:
        await asyncio.shield(inbox.abort())
        raise
    return record


def check_members(options: JobOptions, info: ModelInfo | None) -> None:
    """Raises: InvalidOption if the bundle lacks one of the members asked for."""
    if info is None or options.members is None:
        return
    served = [member.name for member in info.members]
    for name in options.members:
        if name not in served:
            raise InvalidOption(
                f"model {info.name!r} has no member {name!r}; it has {', '.join(served)}", field="members"
            )


async def _known_model(services: Services, name: str | None) -> ModelInfo | None:
    """What is known of the named bundle, or of the default; the default may be unknown while no worker was alive.

    Raises: InvalidOption if it is another and unknown.
    """
    info = await services.registry.model(name or services.settings.bundle_name)
    if info is None and name not in {None, services.settings.bundle_name}:
        raise InvalidOption(
            f"There is no model {str(name)[:64]!r}; /v1/models lists those that are served.", field="model"
        )
    return info


async def _record(
    services: Services,
    job_id: str,
    owner: str,
    request_id: str,
    options: JobOptions,
    media: MediaType,
    received: InputInfo,
) -> JobRecord:
    name = options.model or services.settings.bundle_name
    queue = queue_name(name)
    serving = next((w for w in await services.registry.live_workers() if w.queue == queue), None)
    info = await services.registry.model(name) if serving else None
    now = utc_now()
    return JobRecord(
        id=job_id,
        owner=owner,
        request_id=request_id,
        queue=queue,
        media=media,
        created_at=now,
        expires_at=now + timedelta(seconds=services.settings.result_ttl_s),
        options=options,
        model=ModelRef(name=name, version=serving.version if serving else None),
        labels=info.labels if info else None,
        detector=serving.detector if serving else None,
        input=received,
    )
