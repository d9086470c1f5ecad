"""Ends a process that hangs: a decoder or a device that never answers cannot be interrupted in any other way.

The job is then taken up again like that of any dead worker, and whatever started the process starts it again.
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
    """Looks at running jobs from a thread of its own.

    stall_s: a job without progress for so long hangs; 0: none ever does.  excused: whether everything waits for
    something that is known to be away.
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
        """Watch a job meanwhile.  progress: something that differs whenever the job got on."""
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
