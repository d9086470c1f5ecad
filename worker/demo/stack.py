"""Redis, API and worker on this machine, on free ports and in a temporary folder."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from worker.demo import DemoError
from worker.demo.processes import Process, free_port, is_free

READY_S = 180  # loading torch from a cold disk is slow
POLL_S = 0.3


@dataclass(frozen=True)
class Stack:
    """The running services.  ready: the body of /health/ready."""

    url: str
    logs: Path
    processes: tuple[Process, ...]
    ready: dict[str, Any]

    def check(self) -> None:
        """Raises: DemoError if one of the services has died."""
        for process in self.processes:
            process.check()


@contextmanager
def running(port: int | None, say: Callable[[str], None]) -> Iterator[Stack]:
    """Run the services inside the block, ready for jobs; then stop them and remove their folder.  port: None: any."""
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="mien-")))
        started: list[Process] = []

        def start(name: str, command: list[str], environment: dict[str, str]) -> None:
            process = Process(name, command, environment, folder)
            cleanup.callback(process.stop)
            started.append(process)

        chosen = port or free_port()
        if not is_free(chosen):  # another API on this port would answer instead
            raise DemoError(f"port {chosen} is in use: stop what listens there first")
        redis_url = os.environ.get("MIEN_REDIS_URL") or _start_redis(start, folder)
        environment = {
            "MIEN_REDIS_URL": redis_url,
            "MIEN_UPLOADS": str(folder / "uploads"),
            "MIEN_HOST": "127.0.0.1",
            "MIEN_PORT": str(chosen),
        }
        start("api", [sys.executable, "-m", "app"], environment)
        start("worker", [sys.executable, "-m", "worker", "run"], environment)
        url = f"http://127.0.0.1:{chosen}"
        yield Stack(url, folder, tuple(started), _wait_ready(url, started, say))


def _start_redis(start: Callable[[str, list[str], dict[str, str]], None], folder: Path) -> str:
    """Start a Redis without persistence and return its URL."""
    program = shutil.which("redis-server")
    if program is None:
        raise DemoError("no redis-server: install it (Debian: apt-get install redis-server) or set MIEN_REDIS_URL")
    port = free_port()
    memory_only = ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
    start("redis", [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), *memory_only], {})
    return f"redis://127.0.0.1:{port}/0"


def _wait_ready(url: str, processes: list[Process], say: Callable[[str], None]) -> dict[str, Any]:
    """The body of /health/ready once it answers 200."""
    deadline = time.monotonic() + READY_S
    missing = "the API does not respond"
    with httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
        while time.monotonic() < deadline:
            for process in processes:
                process.check()
            try:
                answer = client.get("/health/ready")
            except httpx.TransportError:
                time.sleep(POLL_S)
                continue
            body: dict[str, Any] = answer.json()
            if answer.status_code == httpx.codes.OK:
                return body
            missing = "; ".join(body.get("missing") or [answer.text])
            say(f"waiting: {missing}")
            time.sleep(POLL_S)
    logs = "\n".join(f"--- {process.name}\n{process.tail()}" for process in processes)
    raise DemoError(f"not ready after {READY_S} s: {missing}\n{logs}")
