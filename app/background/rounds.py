"""Periodic rounds of the background process; a failure of one task does not end others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog
from redis.exceptions import RedisError

VARIED = 0.2  # of the interval between two rounds

log = structlog.get_logger(__name__)


async def repeat(what: str, do: Callable[[], Awaitable[object]], every_s: float) -> None:
    """Run a round every `every_s` seconds, until cancelled.  A failed round is logged."""
    while True:
        try:
            await do()
        except (RedisError, OSError) as error:  # Redis or the upload store is unavailable
            log.warning("round_failed", what=what, error=type(error).__name__)
        except Exception:
            log.exception("round_failed", what=what)
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # a library swallowed the cancellation as its own timeout
            raise asyncio.CancelledError
        # Varied, since workers wait for jobs in a fixed rhythm: a job that recovery queues again would reach the same
        # worker each time, also one of another release that refuses it.
        await asyncio.sleep(every_s * random.uniform(1 - VARIED, 1 + VARIED))  # noqa: S311 (not a secret)
