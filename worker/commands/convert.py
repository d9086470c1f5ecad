"""`python -m worker convert`: make a bundle's graphs for the CPU, in float32 and in 8 bits, and store them in it.

python -m worker convert bundles/mine --data valid.npz --calibration train.npz
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from model_store.bundle import BundleError, NewBundle, find_bundle, read_manifest
from worker.errors import CommandError


def command(
    bundle: Annotated[str, typer.Argument(help="name or folder")],
    data: Annotated[Path | None, typer.Option(help="labelled data, to make int8 as well and compare it on")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="data to make int8 with; default: some of --data, which are then not compared")
    ] = None,
    layout: Annotated[str, typer.Option(help="of the data: stills, affwild2 or manifest")] = "stills",
) -> None:
    """A worker on a CPU makes missing graphs at each start, which takes seconds; this makes them once.

    int8 is made only with --data, since it depends on what faces look like.  One that the bundle has stays.
    """
    if calibration is not None and data is None:
        raise typer.BadParameter("goes with --data", param_hint="--calibration")
    from worker.ensemble.precision import PrecisionError  # noqa: PLC0415
    from worker.inference.graphs import add_graphs  # noqa: PLC0415
    from worker.training.card import refresh_card  # noqa: PLC0415
    from worker.training.errors import TrainingError  # noqa: PLC0415
    from worker.training.int8 import add_int8_from  # noqa: PLC0415  # loads torch

    try:
        folder = find_bundle(bundle)
        with NewBundle(folder, replace=True) as path:
            shutil.copytree(folder, path, dirs_exist_ok=True)
            before = read_manifest(path)
            add_graphs(path)
            refresh_card(path, before)
            if data is not None:
                add_int8_from(path, data, calibration, layout)
    except (BundleError, TrainingError, PrecisionError) as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{bundle} cannot be written: {error.strerror}; convert a copy of it") from None
    typer.echo(f"written: {folder}", err=True)
