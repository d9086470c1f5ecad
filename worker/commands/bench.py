"""`python -m worker bench`: speed of the ensemble and of the pipeline, against the plain reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from model_store.bundle import BundleError
from worker.decode import LimitExceededError, UndecodableInputError
from worker.ensemble.precision import PrecisionError
from worker.errors import CommandError
from worker.evaluation.benchmark import measure
from worker.faces import DetectorError
from worker.inference.serving import DeviceError, DeviceFailedError
from worker.settings import WorkerSettings


def command(
    bundle: Annotated[str | None, typer.Option(help="name or folder; default: MIEN_BUNDLE")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda:N; default: MIEN_DEVICE")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16")] = None,
    video: Annotated[Path | None, typer.Option(help="measure the whole pipeline on this video as well")] = None,
    crops: Annotated[int, typer.Option(min=18, help="crops of the synthetic clip")] = 128,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Figures are comparable within one run, not between machines or times."""
    wanted = {"bundle": bundle, "device": device, "precision": precision}
    settings = WorkerSettings(**{name: value for name, value in wanted.items() if value is not None})  # type: ignore[arg-type]
    try:
        figures = measure(settings, video, crops)
    except (
        BundleError,
        DeviceError,
        DeviceFailedError,
        DetectorError,
        PrecisionError,
        UndecodableInputError,
        LimitExceededError,
    ) as error:
        raise CommandError(str(error)) from None
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        _show(figures)


def _show(figures: dict[str, Any], indent: str = "") -> None:
    for name, value in figures.items():
        if isinstance(value, dict):
            typer.echo(f"{indent}{name}")
            _show(value, indent + "  ")
        else:
            typer.echo(f"{indent}{name:32} {value}")
