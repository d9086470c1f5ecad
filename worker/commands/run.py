"""`python -m worker run`: load the bundle once, say READY, take jobs until SIGTERM."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Annotated

import typer

from worker.commands import CommandError
from worker.logs import configure
from worker.parent import end_with_parent
from worker.priority import step_back
from worker.settings import ALL_DEVICES, WorkerSettings
from worker.supervisor import NoDevicesError, cuda_devices, supervise, worker_command


def command(
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=64, help="jobs at once; MIEN_CONCURRENCY where absent")
    ] = None,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Serve the bundle `MIEN_BUNDLE` on `MIEN_DEVICE`; every setting is an environment variable, see the README."""
    settings = WorkerSettings() if concurrency is None else WorkerSettings(concurrency=concurrency)
    configure(settings)
    step_back(settings.nice)
    if supervised:
        end_with_parent()
        _serve(settings, lambda: None)
    else:
        with _renderer() as stop_renderer:
            if settings.device == ALL_DEVICES:
                try:
                    supervise(cuda_devices(), worker_command(settings.concurrency), stop_renderer)
                except NoDevicesError as error:
                    raise CommandError(str(error)) from None
            else:
                _serve(settings, stop_renderer)
    # All is said and done; Python would clean up after torch now, for seconds on a busy machine.
    sys.stderr.flush()
    os._exit(0)


def _serve(settings: WorkerSettings, on_stop: Callable[[], None]) -> None:
    from worker.process import serve  # noqa: PLC0415  # a supervisor never imports torch

    serve(settings, on_stop)


@contextmanager
def _renderer() -> Iterator[Callable[[], None]]:
    """Draws annotated videos, so that the GPU never waits for that; started before CUDA is touched.

    Yields what stops it, once however often it is called: a second signal would not let it hand back what it draws.
    """
    renderer = subprocess.Popen([sys.executable, "-m", "worker.renderer"])
    stop_once = cache(renderer.terminate)
    try:
        yield stop_once
    finally:
        stop_once()
        renderer.wait()
