"""Rounds of the background process: each kind of work is done again and again, and none ends another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)


async def repeat(what: str, do: Callable[[], Awaitable[object]], every_s: float) -> None:
    """Do a round for ever, `every_s` seconds apart.  One that fails is logged; the next one is done all the same."""
    while True:
        try:
            await do()
        except (RedisError, OSError) as error:  # Redis or the upload store is away for a while
            log.warning("round_failed", what=what, error=type(error).__name__)
        except Exception:
            log.exception("round_failed", what=what)
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # and a library took the cancellation for a timeout of its own
            raise asyncio.CancelledError
        await asyncio.sleep(every_s)
