"""Services shared by all routes: settings and connections, opened at startup."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import redis.asyncio
from redis import Redis
from redis.asyncio.connection import BlockingConnectionPool
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from app.contract.uploads import Space, UploadStore
from app.http.keyring import Keyring
from app.jobs.admission import RateLimiter
from app.jobs.changes import ChangeHub
from app.jobs.live_workers import Registry
from app.jobs.queueing import Queueing
from app.jobs.results import Results
from app.jobs.store import JobStore
from app.jobs.upload_probe import StoreProbe
from app.reports.digest_cache import DigestCache
from app.settings import Settings

REDIS_TIMEOUT_S = 5
REDIS_RETRIES = 2  # hides a restart of Redis, and reports an outage within seconds
REDIS_CONNECTIONS = 32  # further concurrent requests wait for a connection, usually less than a millisecond
THREADS = 32  # for storage and RQ, which block


@dataclass(frozen=True)
class Services:
    """The services of a process."""

    settings: Settings
    keyring: Keyring | None
    redis: redis.asyncio.Redis
    queueing: Queueing
    uploads: UploadStore
    jobs: JobStore
    registry: Registry
    changes: ChangeHub
    limiter: RateLimiter
    results: Results
    writable: StoreProbe[bool]
    space: StoreProbe[Space | None]
    digests: DigestCache


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Open the connections; Redis need not be reachable yet."""
    backoff = ExponentialBackoff(cap=1, base=0.1)
    reader = redis.asyncio.Redis.from_pool(
        BlockingConnectionPool.from_url(
            settings.redis_url,
            max_connections=REDIS_CONNECTIONS,
            timeout=REDIS_TIMEOUT_S,
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            retry=AsyncRetry(backoff, REDIS_RETRIES),
        )
    )
    writer = Redis.from_url(
        settings.redis_url,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        retry=Retry(backoff, REDIS_RETRIES),
    )
    keyring = Keyring(settings.api_keys_file) if settings.api_keys_file else None
    hub = ChangeHub(reader)
    digests = DigestCache()
    executor = ThreadPoolExecutor(THREADS, "mien-io")
    asyncio.get_running_loop().set_default_executor(executor)
    try:
        uploads = await asyncio.to_thread(UploadStore, settings.uploads)
        queueing = Queueing(writer, reader)
        jobs = JobStore(reader, queueing, uploads, settings.result_ttl_s)
        limiter = RateLimiter(reader, settings.rate_limit)
        hub.start()
        registry, results = Registry(reader), Results(reader, writer)
        writable, space = StoreProbe(partial(_is_writable, uploads)), StoreProbe(uploads.space)
        yield Services(
            settings=settings,
            keyring=keyring,
            redis=reader,
            queueing=queueing,
            uploads=uploads,
            jobs=jobs,
            registry=registry,
            changes=hub,
            limiter=limiter,
            results=results,
            writable=writable,
            space=space,
            digests=digests,
        )
    finally:
        await hub.aclose()
        await reader.aclose()
        writer.close()
        executor.shutdown(wait=False)
        digests.close()


def _is_writable(uploads: UploadStore) -> bool:
    uploads.check_writable()
    return True
