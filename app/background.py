"""The front end's child process: `python -m app.background`

It delivers webhooks, sweeps, and looks after lost jobs and those that nobody takes.

`python -m app` starts it and holds the other end of its standard input: when that closes, however the front end ended,
this process ends, too.  Several (one a front end) share the work through Redis.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis
import redis.asyncio
import structlog

from app import logs
from app.contract.uploads import UploadStore
from app.queueing import Queueing
from app.recovery import Recovery
from app.services import REDIS_TIMEOUT_S
from app.settings import Settings
from app.store import JobStore
from app.sweeper import Sweeper
from app.unserved import Unserved
from app.webhooks.courier import Courier

STOP_S = 10
AGAIN_S = 1  # before a child that died is started again

log = structlog.get_logger(__name__)


@contextmanager
def background() -> Iterator[None]:
    """Have the child process while this lasts; should it die, another is started."""
    stopping = threading.Event()
    children: list[subprocess.Popen[bytes]] = []

    def keep() -> None:
        while not stopping.is_set():
            with subprocess.Popen([sys.executable, "-m", "app.background"], stdin=subprocess.PIPE) as child:
                children[:] = [child]
                child.wait()
            if not stopping.wait(AGAIN_S):
                log.warning("background_died", status=child.returncode)

    thread = threading.Thread(target=keep, name="background", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        for child in children:
            child.terminate()
        thread.join(STOP_S)
        for child in children:
            child.kill()


async def work(settings: Settings) -> None:
    """Deliver and sweep until cancelled."""
    timeouts: dict[str, Any] = {"socket_timeout": REDIS_TIMEOUT_S, "socket_connect_timeout": REDIS_TIMEOUT_S}
    connection = redis.asyncio.Redis.from_url(settings.redis_url, **timeouts)
    writer = redis.Redis.from_url(settings.redis_url, **timeouts)
    try:
        uploads = await asyncio.to_thread(UploadStore, settings.uploads)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(Courier(connection, settings).run())
            tasks.create_task(Sweeper(connection, uploads, settings.result_ttl_s, settings.heartbeat_s).run())
            queueing = Queueing(writer, connection)
            tasks.create_task(Recovery(connection, queueing, uploads, settings).run())
            jobs = JobStore(connection, queueing, uploads, settings.result_ttl_s)
            tasks.create_task(Unserved(connection, jobs, settings).run())
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
