"""Fetches the videos of jobs submitted by address into the upload store, and queues the jobs.

Redis holds pending fetches by due time.  A process takes one by a lease of `LEASE_S`, which it extends during the
transfer; if the process dies, another one starts the fetch again.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import cast

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from app.background.fetch_sources import FetchError, in_words, opened
from app.contract import keys
from app.contract.jobs import JobError, JobRecord, UnreadableRecordError
from app.contract.scripts.fetches import PROGRESS
from app.contract.scripts.webhooks import TAKE
from app.contract.uploads import UploadStore
from app.http.errors import UnsupportedMedia
from app.jobs.store import JobStore
from app.settings import Settings
from app.submission.inbox import Inbox
from app.webhooks.targets import ForbiddenTargetError

LOOK_S = 0.5
LEASE_S = 60  # longer than the timeout of a silent host
TELL_S = 1.0  # interval of progress reports and of checks for cancellation
AT_ONCE = 4
PAUSES_S = (5, 30, 120, 600)  # backoff before each retry

log = structlog.get_logger(__name__)


class _GoneError(Exception):
    """The job no longer waits for its input: it was cancelled or removed."""


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
        except UnsupportedMedia as error:
            await self._fail(record, inbox, FetchError(error.detail, lasting=True))
        except (FetchError, ForbiddenTargetError, OSError, http.client.HTTPException) as error:
            await self._fail(record, inbox, error)
        except BaseException:
            await asyncio.shield(inbox.abort())
            raise
        else:
            self._tries.pop(job_id, None)
            log.info("fetched", job_id=job_id, request_id=record.request_id, bytes=received.bytes)

    async def _receive(self, record: JobRecord, inbox: Inbox) -> None:
        """Copy the whole video into the inbox.  Raises: _GoneError, FetchError; as `opened`."""
        most = self._settings.max_upload_bytes
        too_large = FetchError(f"the video is larger than the limit of {most} bytes", lasting=True)
        source = opened(record.url, self._settings)
        video = await asyncio.to_thread(source.__enter__)
        try:
            if video.total is not None and video.total > most:
                raise too_large
            pieces, received, told = video.pieces(), 0, 0.0
            inbox.begin("file")
            while data := await asyncio.to_thread(_next, pieces):
                received += len(data)
                if received > most:
                    raise too_large
                await inbox.write(data)
                if time.monotonic() - told > TELL_S:
                    told = time.monotonic()
                    await self._tell(record.id, received, video.total)
            if video.total is not None and received < video.total:
                raise FetchError("the host closed the connection early", lasting=False)
            await self._tell(record.id, received, video.total)
            await inbox.end()
        finally:
            with suppress(OSError, http.client.HTTPException):
                await asyncio.to_thread(source.__exit__, None, None, None)

    async def _tell(self, job_id: str, received: int, total: int | None) -> None:
        progress = json.dumps({"bytes_fetched": received, "bytes_total": total})
        arguments: list[str | int] = [job_id, keys.changed(job_id), progress, LEASE_S]
        if await self._progress(keys=[keys.job(job_id)], args=arguments) != b"ok":
            raise _GoneError

    async def _fail(self, record: JobRecord, inbox: Inbox, error: Exception) -> None:
        """Schedule a retry with backoff, or end the job."""
        await inbox.abort()
        tried = self._tries.get(record.id, 0)
        lasting = isinstance(error, ForbiddenTargetError) or (isinstance(error, FetchError) and error.lasting)
        words = str(error) if isinstance(error, ForbiddenTargetError) else in_words(error)
        said = {"job_id": record.id, "request_id": record.request_id, "why": words, "error": type(error).__name__}
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


def _next(pieces: Iterator[bytes]) -> bytes:
    return next(pieces, b"")
