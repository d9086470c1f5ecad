"""Sweeping: what nothing points to goes, what is in use stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import redis.asyncio

from app.background.sweeper import Sweeper
from app.contract import keys
from app.contract.uploads import UploadStore


def test_expired_inputs_go_and_others_stay(
    api: httpx.Client, submit: Callable[..., str], worker: Any, uploads: Path, redis_url: str
) -> None:
    """Files of expired jobs go at the second round; those of living jobs and of uploads on their way stay."""
    living, expired, coming = submit(), submit(), "c" * 32
    worker.redis.delete(keys.job(expired))
    writer = UploadStore(str(uploads)).create(coming)
    writer.write(b"half")
    worker.redis.set(keys.upload(coming), 1)

    async def sweep(rounds: int) -> list[int]:
        connection = redis.asyncio.Redis.from_url(redis_url)
        sweeper = Sweeper(connection, UploadStore(str(uploads)), 3600)
        removed = [await sweeper.sweep() for _ in range(rounds)]
        await connection.aclose()
        return removed

    assert asyncio.run(sweep(3)) == [0, 1, 0]
    assert {path.name for path in uploads.iterdir()} == {living, coming}
    worker.redis.delete(keys.upload(coming))
    writer.abort()
    assert asyncio.run(sweep(2)) == [0, 0]
    assert {path.name for path in uploads.iterdir()} == {living}


def test_old_list_entries_go(worker: Any, submit: Callable[..., str], redis_url: str, uploads: Path) -> None:
    """Entries of jobs that expired long ago leave the list; a living job's never does."""
    living = submit()
    worker.redis.zadd(keys.jobs(""), {"d" * 32: 1000, living: 1000})

    async def sweep() -> None:
        connection = redis.asyncio.Redis.from_url(redis_url)
        await Sweeper(connection, UploadStore(str(uploads)), 3600).sweep()
        await connection.aclose()

    asyncio.run(sweep())
    assert worker.redis.zrange(keys.jobs(""), 0, -1) == [living.encode()]
