"""Creates a job from a resumable upload, whose bytes stay in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from app.contract.jobs import InputInfo, JobRecord
from app.contract.options import JobOptions
from app.contract.uploads import INPUT
from app.http.errors import IdempotencyMismatch, InvalidOption, NotFound
from app.services import Services
from app.submission import idempotency, resumable
from app.submission.inbox import Inbox


@dataclass(frozen=True)
class Submission:
    """A queued job.  replayed: another request with the same Idempotency-Key had made it."""

    record: JobRecord
    replayed: bool


# Makes the job of a stored input: its id, `media`, sizes, and the name of its file.
Make = Callable[[str, str, InputInfo, str], Awaitable[Submission]]


async def adopt(
    services: Services, owner: str, upload_id: str, key: str, options: JobOptions, inbox: Inbox, make: Make
) -> Submission:
    """Make a job of an upload, whose id becomes the job's.  key: the Redis key of an Idempotency-Key, or "".

    A single image is taken into the inbox, as images are stored in archives: its job has the inbox's id.
    Raises: InvalidOption if there is no such upload; Conflict if it is not complete; UnsupportedMedia; OSError.
    """
    async with resumable.alone(services, upload_id):
        try:
            upload = await resumable.find(services, owner, upload_id)
        except NotFound as error:
            if key and (former := await _made_with(services, owner, key, options)) is not None:
                return Submission(former, replayed=True)
            raise InvalidOption(f"upload: {error.detail}", field="upload") from None
        kind, sizes = await resumable.complete(services, upload)
        if kind.is_image:
            inbox.begin("file")
            content = services.uploads.read(upload_id, INPUT, 0, upload.length)
            while data := await asyncio.to_thread(next, content, b""):
                await inbox.write(data)
            await inbox.end()
            made = await make(inbox.job_id, *await inbox.commit(), upload.name)
        else:
            made = await make(upload_id, kind.name, sizes, upload.name)
        if made.record.id == upload_id:
            await resumable.forget(services, owner, upload_id)
        else:
            await resumable.remove(services, owner, upload_id)
    return made


async def _made_with(services: Services, owner: str, key: str, options: JobOptions) -> JobRecord | None:
    """The job that an earlier request with this key made of its upload.  Raises: IdempotencyMismatch."""
    made = cast(bytes | None, await services.redis.hget(key, "job"))
    if made is None:
        return None
    former = await services.jobs.get(made.decode(), owner)
    if former.options != options:
        raise IdempotencyMismatch(f"This {idempotency.HEADER} was used with other options.")
    return former
