"""Delivers webhooks: leases due deliveries in Redis, sends them, and deletes those that a receiver accepts.

If the process dies, a delivery is due again when its lease ends.  Failed deliveries are retried with backoff until the
last attempt or a 410 from the receiver.  Deliveries run concurrently with a limit for each host, so that a dead
receiver does not delay others.
"""

from __future__ import annotations

import asyncio
import http.client
import random
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import cast

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from app.contract import keys
from app.contract.scripts.webhooks import TAKE, TRY_AGAIN
from app.settings import Settings
from app.webhooks.payload import Delivery
from app.webhooks.post import ANSWER_S, CONNECT_S, post
from app.webhooks.signing import headers
from app.webhooks.targets import ForbiddenTargetError, parse_target

# Backoff before each retry: 10 attempts within about a day, as the standard recommends.
PAUSES_S = (5, 30, 120, 600, 1800, 3600, 7200, 21_600, 43_200)
JITTER = 0.2  # spreads the retries, so that a recovering receiver does not get all at once
LEASE_S = 2 * (CONNECT_S + ANSWER_S)
LOOK_S = 0.5
AT_ONCE = 24
AT_ONCE_A_HOST = 4

_OK = range(200, 300)
_GONE = 410

log = structlog.get_logger(__name__)


class Courier:
    """Delivers due webhooks."""

    def __init__(self, connection: redis.asyncio.Redis, settings: Settings) -> None:
        self._redis = connection
        self._settings = settings
        self._take = connection.register_script(TAKE)
        self._again = connection.register_script(TRY_AGAIN)
        self._hosts: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE_A_HOST))
        self._under_way: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(AT_ONCE, "webhook")  # a separate pool, since dead receivers block threads

    def close(self) -> None:
        """Cancel running deliveries; they are due again when their leases end."""
        for task in self._under_way:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def deliver_due(self) -> None:
        """Start due deliveries up to the limit `AT_ONCE`.  Call it every `LOOK_S`."""
        room = AT_ONCE - len(self._under_way)
        if room <= 0:
            return
        taken = cast(list[bytes], await self._take(keys=[keys.WEBHOOKS], args=[LEASE_S, room]))
        for job_id in taken:
            task = asyncio.create_task(self._deliver(job_id.decode()))
            self._under_way.add(task)
            task.add_done_callback(self._delivered)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        """Log a failed task; its delivery is due again when its lease ends."""
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("webhook_broke", exc_info=error)

    async def _deliver(self, job_id: str) -> None:
        fields = cast(dict[bytes, bytes], await self._redis.hgetall(keys.webhook(job_id)))
        if b"url" not in fields:  # its job was removed
            await self._forget(job_id)
            return
        values = {name.decode(): value.decode() for name, value in fields.items()}
        attempts = int(values.pop("attempts"))
        delivery = Delivery(job_id=job_id, attempts=attempts, **values)
        answer = await self._attempt(delivery)
        if answer == "busy":
            await self._try_again(job_id, 1, attempts=0)
            return
        said = {"job_id": job_id, "request_id": delivery.request_id, "attempt": attempts + 1, "answer": answer}
        if answer in {"delivered", "refused"} or attempts >= len(PAUSES_S):
            log.info("webhook_ended", **said)
            await self._forget(job_id)
            return
        pause_s = PAUSES_S[attempts] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  # not a secret
        log.info("webhook_failed", **said, again_in_s=round(pause_s))
        await self._try_again(job_id, pause_s, attempts=1)

    async def _try_again(self, job_id: str, pause_s: float, *, attempts: int) -> None:
        await self._again(keys=[keys.webhook(job_id), keys.WEBHOOKS], args=[job_id, pause_s, attempts])

    async def _attempt(self, delivery: Delivery) -> str:
        """-> delivered | refused | busy, or the reason of the failure."""
        try:
            target = parse_target(delivery.url, self._settings.callback_reach)
        except (ForbiddenTargetError, ValueError):
            return "refused"
        host = self._hosts[target.host]
        if host.locked():
            return "busy"
        async with host:
            body = delivery.body()
            signed = headers(self._settings.callback_key, f"msg_{delivery.job_id}", int(time.time()), body)
            try:
                loop = asyncio.get_running_loop()
                status = await loop.run_in_executor(self._threads, post, target, body, signed, self._settings)
            except ForbiddenTargetError as error:
                return str(error)
            except (OSError, http.client.HTTPException) as error:
                return type(error).__name__
        if status in _OK:
            return "delivered"
        return "refused" if status == _GONE else f"status {status}"

    async def _forget(self, job_id: str) -> None:
        with suppress(RedisError):
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(keys.webhook(job_id))
                pipe.zrem(keys.WEBHOOKS, job_id)
                await pipe.execute()
