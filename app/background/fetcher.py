"""Fetches the videos of jobs submitted by address into the upload store, and queues the jobs.

Redis holds pending fetches by due time.  A process takes one by a lease of `LEASE_S`, which it extends until the fetch
ends; if the process dies, another one starts the fetch again.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar, cast

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from app.background.fetch_sources import FetchError, Opened, in_words, opened
from app.contract import keys
from app.contract.jobs import JobError, JobRecord, UnreadableRecordError
from app.contract.scripts.fetches import PROGRESS
from app.contract.scripts.webhooks import TAKE
from app.contract.uploads import UploadStore
from app.http.errors import ProblemError, UnsupportedMedia, UploadTooSlow
from app.jobs.store import JobStore
from app.settings import Settings
from app.submission.inbox import Inbox
from app.submission.pace import paced
from app.webhooks.targets import ForbiddenTargetError

LOOK_S = 0.5
LEASE_S = 60
TELL_S = 1.0  # interval of lease renewals, progress reports and checks for cancellation
AT_ONCE = 4
PAUSES_S = (5, 30, 120, 600)  # backoff before each retry
# Failures of hosts and storage; any other exception is a bug.
EXPECTED = (FetchError, ForbiddenTargetError, ProblemError, OSError, http.client.HTTPException)

Result = TypeVar("Result")

log = structlog.get_logger(__name__)


class _GoneError(Exception):
    """The job no longer waits for its input: it was cancelled or removed."""


@dataclass
class _Progress:
    """Bytes received so far, the total if the host reports it, and the time of the last report."""

    received: int = 0
    total: int | None = None
    told_s: float = 0.0


class Fetcher:
    """Fetches inputs until it is cancelled."""

    def __init__(
        self, connection: redis.asyncio.Redis, jobs: JobStore, uploads: UploadStore, settings: Settings
    ) -> None:
        self._redis = connection
        self._jobs = jobs
        self._uploads = uploads
        self._settings = settings
        self._take = connection.register_script(TAKE)
        self._progress = connection.register_script(PROGRESS)
        self._under_way: set[asyncio.Task[None]] = set()
        self._tries: dict[str, int] = {}

    def close(self) -> None:
        """Cancel running fetches; they are due again when their leases end."""
        for task in self._under_way:
            task.cancel()

    async def fetch_due(self) -> None:
        """Start due fetches up to the concurrency limit.  Call it every `LOOK_S`."""
        room = AT_ONCE - len(self._under_way)
        if room <= 0:
            return
        for job_id in cast(list[bytes], await self._take(keys=[keys.FETCHES], args=[LEASE_S, room])):
            task = asyncio.create_task(self._fetch(job_id.decode()))
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("fetch_broke", exc_info=error)  # it is due again after its lease

    async def _fetch(self, job_id: str) -> None:
        fields = cast(dict[bytes, bytes], await self._redis.hgetall(keys.job(job_id)))
        try:
            record = JobRecord.from_hash(fields) if fields else None
        except UnreadableRecordError as error:  # left to a front end that reads it
            log.error("job_unreadable", job_id=job_id, why=str(error))
            return
        if record is None or record.state != "queued" or record.stage is None:
            await self._redis.zrem(keys.FETCHES, job_id)
            return
        inbox = Inbox(self._uploads, job_id)
        try:
            await asyncio.to_thread(self._uploads.delete, job_id)  # the rest of an interrupted attempt
            await self._receive(record, inbox)
            media, received = await inbox.commit()
            if not await self._jobs.fetched(record, media, received):
                raise _GoneError
        except _GoneError:
            await inbox.abort()
        except RedisError:  # it is due again after its lease
            await inbox.abort()
            raise
        except Exception as error:
            await self._fail(record, inbox, error)
        except BaseException:
            await asyncio.shield(inbox.abort())
            raise
        else:
            self._tries.pop(job_id, None)
            log.info("fetched", job_id=job_id, request_id=record.request_id, bytes=received.bytes)

    async def _receive(self, record: JobRecord, inbox: Inbox) -> None:
        """Copy the whole video into the inbox.  Raises: _GoneError, FetchError, ProblemError; as `opened`."""
        settings, progress = self._settings, _Progress()
        too_large = FetchError(f"the video is larger than the limit of {settings.max_upload_bytes} bytes", lasting=True)
        source = opened(record.url, settings)
        video = await self._while_telling(record.id, source.__enter__, progress)
        try:
            progress.total = video.total
            if video.total is not None and video.total > settings.max_upload_bytes:
                raise too_large
            inbox.begin("file")
            pieces = self._pieces(record.id, video, progress)
            async for data in paced(pieces, settings.min_upload_rate, settings.upload_window_s):
                if progress.received > settings.max_upload_bytes:
                    raise too_large
                await inbox.write(data)
            if video.total is not None and progress.received < video.total:
                raise FetchError("the host closed the connection early", lasting=False)
            await self._tell(record.id, progress)
            await inbox.end()
        finally:
            video.cut()
            with suppress(OSError, http.client.HTTPException):
                await asyncio.to_thread(source.__exit__, None, None, None)

    async def _pieces(self, job_id: str, video: Opened, progress: _Progress) -> AsyncIterator[bytes]:
        while data := await self._while_telling(job_id, video.read, progress):
            progress.received += len(data)
            yield data

    async def _while_telling(self, job_id: str, work: Callable[[], Result], progress: _Progress) -> Result:
        """Run `work` in a thread and renew the lease meanwhile.  Raises: _GoneError; what `work` raises."""
        task = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=TELL_S)
                if time.monotonic() - progress.told_s > TELL_S:
                    await self._tell(job_id, progress)
            return task.result()
        finally:
            task.cancel()

    async def _tell(self, job_id: str, progress: _Progress) -> None:
        progress.told_s = time.monotonic()
        words = json.dumps({"bytes_fetched": progress.received, "bytes_total": progress.total})
        arguments: list[str | int] = [job_id, keys.changed(job_id), words, LEASE_S]
        if await self._progress(keys=[keys.job(job_id)], args=arguments) != b"ok":
            raise _GoneError

    async def _fail(self, record: JobRecord, inbox: Inbox, error: Exception) -> None:
        """Schedule a retry with backoff, or end the job."""
        await inbox.abort()
        tried = self._tries.get(record.id, 0)
        words, lasting = _in_words(error)
        said = {"job_id": record.id, "request_id": record.request_id, "why": words, "error": type(error).__name__}
        if not isinstance(error, EXPECTED):
            log.error("fetch_broke", job_id=record.id, exc_info=error)
        if lasting or tried >= len(PAUSES_S):
            self._tries.pop(record.id, None)
            log.info("fetch_failed", **said)
            await self._jobs.fail_fetching(record, JobError(code="fetch_failed", detail=words))
            return
        self._tries[record.id] = tried + 1
        log.info("fetch_again", **said, again_in_s=PAUSES_S[tried])
        with suppress(RedisError):
            seconds, _ = await self._redis.time()
            await self._redis.zadd(keys.FETCHES, {record.id: seconds + PAUSES_S[tried]}, xx=True)


def _in_words(error: Exception) -> tuple[str, bool]:
    """The reason of a failure, without addresses or paths, and whether retries cannot succeed."""
    if isinstance(error, FetchError):
        return str(error), error.lasting
    if isinstance(error, ForbiddenTargetError):
        return str(error), True
    if isinstance(error, UnsupportedMedia):
        return error.detail, True
    if isinstance(error, UploadTooSlow):
        return "its host is too slow", False
    return in_words(error), False
