"""How fast and how much: requests a minute for each caller, jobs in a queue, room for their results."""

from __future__ import annotations

import math
from collections.abc import Iterable

import redis.asyncio

from app.contract import keys
from app.contract.scripts.requests import RATE
from app.http.errors import RateLimited, queue_full, results_full
from app.jobs.queueing import Queueing

ROOM_SHARE = 0.8  # of Redis' memory; what is beyond is kept for the jobs that run, so that they can end

_WINDOW_MS = 60_000


class RateLimiter:
    """Counts in Redis, so that all front ends count together."""

    def __init__(self, connection: redis.asyncio.Redis, per_minute: int) -> None:
        self._per_minute = per_minute
        self._script = connection.register_script(RATE)

    async def check(self, caller: str) -> None:
        """Count one request.  Raises: RateLimited if it is one too many."""
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
            raise RateLimited(f"More than {self._per_minute} requests a minute.", headers=headers)


async def check_queues(queueing: Queueing, queues: Iterable[str], max_queue: int) -> None:
    """Raises: QueueFull if as many jobs wait as may, in each of the queues."""
    if max_queue and min([await queueing.depth(queue) for queue in queues]) >= max_queue:
        raise queue_full(max_queue)


async def check_room(connection: redis.asyncio.Redis) -> None:
    """Raises: ResultsFull if Redis nears its memory limit."""
    memory = await connection.info("memory")
    limit = int(memory.get("maxmemory", 0))
    if limit and int(memory["used_memory"]) > ROOM_SHARE * limit:
        raise results_full()
