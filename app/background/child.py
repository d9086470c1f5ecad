"""Starts the background process beside the front end, and restarts it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

STOP_S = 10
AGAIN_S = 1  # backoff before a restart

log = structlog.get_logger(__name__)


@contextmanager
def background() -> Iterator[None]:
    """Keep the child process running inside the block."""
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
