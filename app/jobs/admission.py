"""Admission control: rate limits of callers, limits of queues, and free memory for results."""

from __future__ import annotations

import math
from collections.abc import Iterable

import redis.asyncio

from app.contract import keys
from app.contract.scripts.requests import RATE
from app.http.errors import RateLimited, queue_full, results_full
from app.jobs.queueing import Queueing

ROOM_SHARE = 0.8  # of Redis' memory; the rest is reserved for running jobs

_WINDOW_MS = 60_000


class RateLimiter:
    """A rate limit that all front ends share through Redis."""

    def __init__(self, connection: redis.asyncio.Redis, per_minute: int) -> None:
        self._per_minute = per_minute
        self._script = connection.register_script(RATE)

    async def check(self, caller: str) -> None:
        """Count one request.  Raises: RateLimited if it exceeds the limit."""
        if not self._per_minute:
            return
        wait_ms = int(await self._script(keys=[keys.rate(caller)], args=[_WINDOW_MS / self._per_minute, _WINDOW_MS]))
        if wait_ms:
            retry_after = str(math.ceil(wait_ms / 1000))
            headers = {
                "Retry-After": retry_after,
                "RateLimit-Policy": f'"default";q={self._per_minute};w=60',
                "RateLimit": f'"default";r=0;t={retry_after}',
            }
            raise RateLimited(f"More than {self._per_minute} requests per minute.", headers=headers)


async def check_queues(queueing: Queueing, queues: Iterable[str], max_queue: int) -> None:
    """Raises: QueueFull if all of the queues are full."""
    if max_queue and min([await queueing.depth(queue) for queue in queues]) >= max_queue:
        raise queue_full(max_queue)


async def check_room(connection: redis.asyncio.Redis) -> None:
    """Raises: ResultsFull if Redis is close to its memory limit."""
    memory = await connection.info("memory")
    limit = int(memory.get("maxmemory", 0))
    if limit and int(memory["used_memory"]) > ROOM_SHARE * limit:
        raise results_full()
