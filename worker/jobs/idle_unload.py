"""Idle unloading: an idle worker may release the model's memory and load it again on demand."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from worker.core import malloc
from worker.inference.serving import Serving

log = structlog.get_logger(__name__)

IDLE = "idle: its memory is given back; the next job waits until the model is loaded again"


class NotTheSameError(Exception):
    """The bundle was replaced while the worker was idle; only a new worker may publish and serve it."""


class IdleUnloader:
    """Lends the loaded bundle to jobs.

    load: loads it.  release_s: seconds without a job before its memory is released; 0: never.  say: called with the
    reason why the next job will wait, and with None after loading.
    """

    def __init__(self, load: Callable[[], Serving], release_s: float, say: Callable[[str | None], None]) -> None:
        self._load = load
        self._release_s = release_s
        self._say = say
        self._lock = threading.Lock()
        self._users = 0
        self._timer: threading.Timer | None = None
        self._stopped = False
        self._loaded: Serving | None = load()
        self._manifest = self._loaded.manifest

    @contextmanager
    def using(self) -> Iterator[Serving]:
        """The loaded bundle; loads it again if it was released.

        Raises: what `load` raises; NotTheSameError.
        """
        with self._lock:
            loaded = self._loaded or self._wake()
            self._users += 1
            if self._timer is not None:
                self._timer.cancel()
        try:
            yield loaded
        finally:
            with self._lock:
                self._users -= 1
                if self._release_s and not self._users and not self._stopped:
                    self._timer = threading.Timer(self._release_s, self._release)
                    self._timer.daemon = True
                    self._timer.start()

    def stop(self) -> None:
        """Stop the engine, so that running jobs end at once, and release nothing any more."""
        self._stopped = True
        loaded, timer = self._loaded, self._timer
        if timer is not None:
            timer.cancel()
        if loaded is not None:
            loaded.pipeline.engine.stop()

    def _wake(self) -> Serving:
        started = time.monotonic()
        loaded = self._load()
        if loaded.manifest != self._manifest:
            loaded.pipeline.engine.close()
            raise NotTheSameError("the bundle was replaced while this worker was idle; start it again to serve it")
        if self._stopped:
            loaded.pipeline.engine.stop()
        self._loaded = loaded
        log.info("loaded_again", seconds=round(time.monotonic() - started, 3))
        self._say(None)
        return loaded

    def _release(self) -> None:
        with self._lock:
            # The timer was cancelled too late: a job runs, or has run and started a new timer.
            if self._users or threading.current_thread() is not self._timer or self._loaded is None:
                return
            self._loaded.pipeline.engine.close()
            self._loaded = None
            give_back_memory()
            log.info("memory_given_back")
            self._say(IDLE)


def give_back_memory() -> None:
    """Return unreferenced memory to the GPU and to the system."""
    gc.collect()
    if "torch" in sys.modules:
        from worker.core import cuda  # noqa: PLC0415

        cuda.give_back_memory()
    malloc.give_back()
