"""The front end's child process: `python -m app.background`

It delivers webhooks, sweeps orphans, recovers lost jobs and ends jobs that no worker takes.

`python -m app` starts it (see `child`) and holds the other end of its standard input: when that closes, even by a crash
of the front end, this process ends.  Several, one for each front end, share the work through Redis.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import closing, suppress
from typing import Any

import redis
import redis.asyncio

from app import logs
from app.background.fetcher import LOOK_S as FETCH_LOOK_S
from app.background.fetcher import Fetcher
from app.background.queue_timeout import QueueTimeout
from app.background.recovery import Recovery
from app.background.rounds import repeat
from app.background.sweeper import Sweeper
from app.contract.uploads import UploadStore
from app.jobs.queueing import Queueing
from app.jobs.store import JobStore
from app.services import REDIS_TIMEOUT_S
from app.settings import Settings
from app.webhooks.courier import LOOK_S, Courier


async def work(settings: Settings) -> None:
    """Run all background work until cancelled."""
    timeouts: dict[str, Any] = {"socket_timeout": REDIS_TIMEOUT_S, "socket_connect_timeout": REDIS_TIMEOUT_S}
    connection = redis.asyncio.Redis.from_url(settings.redis_url, **timeouts)
    writer = redis.Redis.from_url(settings.redis_url, **timeouts)
    try:
        uploads = await asyncio.to_thread(UploadStore, settings.uploads)
        queueing = Queueing(writer, connection)
        jobs = JobStore(connection, queueing, uploads, settings.result_ttl_s)
        sweeper = Sweeper(connection, uploads, settings.result_ttl_s, settings.heartbeat_s)
        recovery = Recovery(connection, queueing, uploads, settings)
        queue_timeout = QueueTimeout(connection, jobs, settings)
        fetching = closing(Fetcher(connection, jobs, uploads, settings))
        with closing(Courier(connection, settings)) as courier, fetching as fetcher:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(repeat("webhooks", courier.deliver_due, LOOK_S))
                tasks.create_task(repeat("fetching", fetcher.fetch_due, FETCH_LOOK_S))
                tasks.create_task(repeat("sweeping", sweeper.sweep_in_turn, sweeper.every_s))
                tasks.create_task(repeat("recovery", recovery.look_if_settled, recovery.every_s))
                tasks.create_task(repeat("queue timeout", queue_timeout.look, queue_timeout.every_s))
    finally:
        writer.close()
        await connection.aclose()


async def _until_parent_ends(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("not in a task")
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    loop.add_reader(sys.stdin.fileno(), task.cancel)
    with suppress(asyncio.CancelledError):
        await work(settings)


def main() -> None:
    """Entry point."""
    settings = Settings()
    logs.configure(settings.log_level, settings.log_json)
    asyncio.run(_until_parent_ends(settings))


if __name__ == "__main__":
    main()
