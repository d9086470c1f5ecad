"""Keeps what is loaded while it is used: an idle worker may give its memory back, and loads again on demand."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import torch

from worker.core import malloc
from worker.inference.serving import Serving

log = structlog.get_logger(__name__)

IDLE = "idle: its memory is given back; the next job waits until the model is loaded again"


class NotTheSameError(Exception):
    """The bundle was replaced while the worker was idle; a new worker is to say so to everyone."""


class IdleUnloader:
    """Lends the loaded bundle to jobs.

    load: loads it.  release_s: seconds without a job after which it is given back; 0: never.  say: told why the next
    job will wait, and None when that is over.
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
        """The loaded bundle, loaded again first where it was given back.

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
        """Have the engine refuse its work, so that running jobs end at once; and give nothing back any more."""
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
            # A timer that was cancelled too late: a job runs, or ran meanwhile and started a timer of its own.
            if self._users or threading.current_thread() is not self._timer or self._loaded is None:
                return
            self._loaded.pipeline.engine.close()
            self._loaded = None
            give_back_memory()
            log.info("memory_given_back")
            self._say(IDLE)


def give_back_memory() -> None:
    """Return what nothing refers to any more to the GPU and to the system."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
        torch.accelerator.empty_host_cache()
    malloc.give_back()
