"""`python -m worker run`: load the bundle once, say READY, take jobs until SIGTERM."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from worker.commands import CommandError
from worker.logs import configure
from worker.parent import end_with_parent
from worker.priority import step_back
from worker.settings import ALL_DEVICES, WorkerSettings
from worker.supervisor import NoDevicesError, cuda_devices, supervise


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
        _serve(settings)
        return
    with _renderer():
        if settings.device == ALL_DEVICES:
            try:
                supervise(cuda_devices(), settings.concurrency)
            except NoDevicesError as error:
                raise CommandError(str(error)) from None
        else:
            _serve(settings)


def _serve(settings: WorkerSettings) -> None:
    from worker.process import serve  # noqa: PLC0415  # a supervisor never imports torch

    serve(settings)


@contextmanager
def _renderer() -> Iterator[None]:
    """Draws annotated videos, so that the GPU never waits for that; started before CUDA is touched."""
    renderer = subprocess.Popen([sys.executable, "-m", "worker.renderer"])
    try:
        yield
    finally:
        renderer.terminate()
        renderer.wait()
