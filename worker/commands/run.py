"""`python -m worker run`: load the bundle once, register as ready, run jobs until SIGTERM."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Annotated

import structlog
import typer

from app.contract.settings import described, misspelt
from app.contract.workers import process_name
from worker.core import malloc
from worker.errors import CommandError
from worker.jobs.connection import await_redis
from worker.process.logs import configure
from worker.process.orphan_guard import child_environment, end_with_parent
from worker.process.priority import step_back
from worker.process.supervisor import CANNOT_SERVE, SupervisorError, cuda_devices, supervise, worker_command
from worker.settings import ALL_DEVICES, WorkerSettings

EPILOG = described(WorkerSettings)
RENDERER_PAUSE_S = 2.0  # backoff before a restart

log = structlog.get_logger(__name__)


def command(
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=64, help="jobs at once; MIEN_CONCURRENCY where absent")
    ] = None,
    supervised: Annotated[int | None, typer.Option("--supervised", hidden=True)] = None,
) -> None:
    """Serve the bundle `MIEN_BUNDLE` on `MIEN_DEVICE`; settings are environment variables, see docs/settings.md."""
    settings = WorkerSettings() if concurrency is None else WorkerSettings(concurrency=concurrency)
    name = process_name()
    configure(settings, name)
    for unknown, meant in misspelt(WorkerSettings, os.environ).items():
        log.warning("unknown_setting", name=unknown, meant=meant)
    step_back(settings.nice)
    if supervised is not None:
        end_with_parent()
    await_redis(settings.redis_url)  # first, so that an unreachable Redis is reported before all that takes time
    if supervised is not None:
        try:
            _serve(settings, name, lambda: None)
        except CommandError as error:
            if not error.lasting:
                raise
            os.write(supervised, str(error).encode())
            os._exit(CANNOT_SERVE)
    else:
        with _renderer() as stop_renderer:
            if settings.device == ALL_DEVICES:
                try:
                    supervise(cuda_devices(), worker_command(settings.concurrency), stop_renderer)
                except SupervisorError as error:
                    raise CommandError(str(error)) from None
            else:
                _serve(settings, name, stop_renderer)
    # Exit without Python's clean-up of torch, which takes seconds on a busy machine.
    sys.stderr.flush()
    os._exit(0)


def _serve(settings: WorkerSettings, name: str, on_stop: Callable[[], None]) -> None:
    with malloc.only_growing():
        from worker.decode.isolated import PROCESS  # noqa: PLC0415

        PROCESS.start()  # loads while we do; a supervisor needs neither it nor torch
        from worker.process.worker_main import serve  # noqa: PLC0415

    serve(settings, name, on_stop)


@contextmanager
def _renderer() -> Iterator[Callable[[], None]]:
    """Keeps the renderer process running.  Start it before CUDA is initialised.

    Yields an idempotent function that stops it: a second signal would keep it from handing its jobs back.
    """
    stopping = threading.Event()
    children = [_start_renderer()]

    def keep() -> None:
        while True:
            status = children[0].wait()
            if stopping.wait(RENDERER_PAUSE_S):
                return
            log.warning("renderer_died", status=status)
            children[0] = _start_renderer()

    @cache
    def stop_once() -> None:
        stopping.set()
        children[0].terminate()

    thread = threading.Thread(target=keep, name="renderer", daemon=True)
    thread.start()
    try:
        yield stop_once
    finally:
        stop_once()
        thread.join()


def _start_renderer() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "worker.process.renderer_main"], env=child_environment())
