"""Notification of waiting requests about changes of jobs, through one Redis subscription of the process.

A message may be lost with its connection, so each wait has a timeout, `RECHECK_S`, after which the job is read again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress

import redis.asyncio
import structlog
from redis.exceptions import NoPermissionError, RedisError

from app.contract import keys

RECHECK_S = 2.0
RECONNECT_S = 1.0

log = structlog.get_logger(__name__)


class ChangeHub:
    """Wakes waiters when jobs change, and all of them when the process stops."""

    def __init__(self, connection: redis.asyncio.Redis) -> None:
        self._redis = connection
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.stopping = False

    def start(self) -> None:
        """Start the subscription; Redis need not be reachable yet."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._listen())

    def stop(self) -> None:
        """Wake all waiters, since the process stops."""
        self.stopping = True
        for events in self._waiters.values():
            for event in events:
                event.set()

    def stop_soon(self) -> None:
        """`stop`, for a signal handler."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.stop)

    async def aclose(self) -> None:
        """Stop, and end the subscription."""
        self.stop()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def subscribe(self, job_id: str) -> Waiter:
        """A waiter for one job; use it as a context manager."""
        return Waiter(self, job_id)

    async def _listen(self) -> None:
        # The condition matters: while it connects, redis-py can swallow the task's cancellation.
        said = False
        while not self.stopping:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.psubscribe(keys.changed("*"))
                    while not self.stopping:
                        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=RECHECK_S)
                        if message is not None:
                            self._wake(message["channel"].decode())
            except (RedisError, OSError) as error:
                # Without the permission changes are noticed up to `RECHECK_S` late, and only this log line shows it.
                refused = isinstance(error, NoPermissionError)
                write = log.error if refused and not said else log.debug
                said = refused
                write("subscription_lost", error=type(error).__name__, detail=str(error))
                await asyncio.sleep(RECONNECT_S)

    def _wake(self, channel: str) -> None:
        for event in self._waiters.get(channel, ()):
            event.set()


class Waiter:
    """Waits for changes of one job, including those between two waits."""

    def __init__(self, hub: ChangeHub, job_id: str) -> None:
        self._hub = hub
        self._channel = keys.changed(job_id)
        self._event = asyncio.Event()

    def __enter__(self) -> Waiter:
        self._hub._waiters[self._channel].add(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        waiters = self._hub._waiters[self._channel]
        waiters.discard(self._event)
        if not waiters:
            del self._hub._waiters[self._channel]

    async def wait(self, seconds: float) -> bool:
        """Wait until the job may have changed, at most `seconds`.  Returns False if the process stops."""
        if self._hub.stopping:
            return False
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), max(0, min(seconds, RECHECK_S)))
        self._event.clear()
        return not self._hub.stopping
