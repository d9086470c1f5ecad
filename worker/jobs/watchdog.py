"""Ends a hanging process: a decoder or device that never responds cannot be interrupted in any other way.

Recovery then restarts the job, as for any dead worker, and the process manager restarts the process.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

EXIT_STATUS = 70  # EX_SOFTWARE
LONGEST_LOOK_S = 5.0

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class _Watched:
    job_id: str
    progress: Callable[[], object]
    seen: object
    since: float


class Watchdog:
    """Monitors running jobs from a separate thread.

    stall_s: timeout without progress; 0 disables the watchdog.  excused: whether jobs wait for a known outage.
    """

    def __init__(self, stall_s: float, excused: Callable[[], bool]) -> None:
        self._stall_s = stall_s
        self._excused = excused
        self._lock = threading.Lock()
        self._watched: list[_Watched] = []
        if stall_s:
            threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    @contextmanager
    def watching(self, job_id: str, progress: Callable[[], object]) -> Iterator[None]:
        """Monitor a job inside the block.  progress: returns a value that changes with every progress."""
        watched = _Watched(job_id, progress, progress(), time.monotonic())
        with self._lock:
            self._watched.append(watched)
        try:
            yield
        finally:
            with self._lock:
                self._watched.remove(watched)

    def _run(self) -> None:
        while True:
            time.sleep(min(self._stall_s / 4, LONGEST_LOOK_S))
            now = time.monotonic()
            with self._lock:
                for watched in self._watched:
                    seen = watched.progress()
                    if seen != watched.seen or self._excused():
                        watched.seen, watched.since = seen, now
                    elif now - watched.since > self._stall_s:
                        log.error("job_hangs", job_id=watched.job_id, seconds=round(now - watched.since))
                        os._exit(EXIT_STATUS)
