"""`python -m worker bench`: speed of the ensemble and of the pipeline, against the plain reference."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from model_store.bundle import BundleError
from worker.core.devices import DeviceError, DeviceFailedError
from worker.decode import LimitExceededError, UndecodableInputError
from worker.ensemble.precision import PrecisionError
from worker.errors import CommandError
from worker.evaluation.against import BuildError, compare
from worker.evaluation.benchmark import measure
from worker.faces import DetectorError
from worker.settings import WorkerSettings


def command(
    bundle: Annotated[str | None, typer.Option(help="name or folder; default: MIEN_BUNDLE")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda:N; default: MIEN_DEVICE")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16, fp16 or int8")] = None,
    video: Annotated[Path | None, typer.Option(help="measure the whole pipeline on this video as well")] = None,
    crops: Annotated[int, typer.Option(min=18, help="crops of the synthetic clip")] = 128,
    against: Annotated[Path | None, typer.Option(help="another checkout: run both in turns and print ratios")] = None,
    turns: Annotated[int, typer.Option(min=1, help="runs of each build")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Figures are comparable within one run, not between machines or times."""
    named = {"bundle": bundle, "device": device, "precision": precision}
    wanted = {name: value for name, value in named.items() if value is not None}
    if against is not None:
        options = [part for name, value in wanted.items() for part in (f"--{name}", value)]
        _beside(against, turns, [*options, "--crops", str(crops)], video, as_json=as_json)
        return
    settings = WorkerSettings(**wanted)  # type: ignore[arg-type]
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


def _beside(checkout: Path, turns: int, options: list[str], video: Path | None, *, as_json: bool) -> None:
    """options: further ones of `worker bench`."""
    if not (checkout / "worker" / "__main__.py").exists():
        raise CommandError(f"--against {checkout}: no checkout of this repository")
    try:
        found = compare(checkout, turns, options, video)
    except BuildError as error:
        raise CommandError(str(error)) from None
    if as_json:
        typer.echo(json.dumps({name: asdict(figure) for name, figure in found.items()}))
        return
    typer.echo(f"{'':26}{'other':>12}{'this':>12}  ratio (range)")
    for name, figure in found.items():
        spread = f"{figure.ratio:.2f} ({figure.lowest:.2f} to {figure.highest:.2f})"
        typer.echo(f"{name:26}{figure.theirs:12.5g}{figure.ours:12.5g}  {spread}")


def _show(figures: dict[str, Any], indent: str = "") -> None:
    for name, value in figures.items():
        if isinstance(value, dict):
            typer.echo(f"{indent}{name}")
            _show(value, indent + "  ")
        else:
            typer.echo(f"{indent}{name:32} {value}")
