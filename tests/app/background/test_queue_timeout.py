"""Jobs that no worker takes end; others are unaffected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import redis
import redis.asyncio

from app.background.queue_timeout import LONGEST_WAIT_S, QueueTimeout
from app.contract import keys
from app.contract.jobs import utc_now
from app.contract.uploads import UploadStore
from app.jobs.queueing import Queueing
from app.jobs.store import JobStore
from app.settings import Settings


def look(redis_url: str, uploads: Path, ttl_s: int) -> None:
    """One round."""

    async def run() -> None:
        reader = redis.asyncio.Redis.from_url(redis_url)
        with redis.Redis.from_url(redis_url) as writer:
            jobs = JobStore(reader, Queueing(writer, reader), UploadStore(str(uploads)), ttl_s)
            await QueueTimeout(reader, jobs, Settings(redis_url=redis_url, result_ttl_s=ttl_s)).look()
        await reader.aclose()

    asyncio.run(run())


def test_a_job_that_nobody_takes_has_failed(
    api: httpx.Client, submit: Callable[..., str], worker: Any, redis_url: str, uploads: Path
) -> None:
    """After a day, or after as long as results live, it is `not_started`, its input is gone, and it expires."""
    retired, kept, fresh, again, running = submit(), submit(keep_input="true"), submit(), submit(), submit()
    long_ago = (utc_now() - timedelta(seconds=LONGEST_WAIT_S + 60)).isoformat()
    for job_id in (retired, kept, again, running):
        worker.redis.hset(keys.job(job_id), "created_at", long_ago)
    worker.redis.hset(keys.job(again), "started_at", utc_now().isoformat())  # it ran, and waits again
    worker.claim(running)
    look(redis_url, uploads, 2 * LONGEST_WAIT_S)
    assert api.get(f"/v1/jobs/{retired}").json()["state"] == "queued"
    look(redis_url, uploads, 3600)
    for job_id in (retired, kept):
        job = api.get(f"/v1/jobs/{job_id}").json()
        assert (job["state"], job["error"]["code"]) == ("failed", "not_started")
        assert job["expires_at"] > job["finished_at"] > job["created_at"]
        assert 0 < worker.redis.ttl(keys.job(job_id)) <= 3600
        assert not worker.redis.exists(keys.rq_job(job_id))
    assert [worker.record(job_id).state for job_id in (fresh, again, running)] == ["queued", "queued", "running"]
    assert worker.redis.lrange(keys.rq_queue("mien-default"), 0, -1) == [fresh.encode(), again.encode()]
    assert {path.name for path in uploads.iterdir()} == {kept, fresh, again, running}
