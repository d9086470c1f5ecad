"""`python -m worker convert`: make a bundle's graphs for the CPU and store them in its folder."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

from model_store.bundle import BundleError, NewBundle, find_bundle
from worker.errors import CommandError


def command(
    bundle: Annotated[str, typer.Argument(help="name or folder")],
) -> None:
    """A worker on a CPU makes missing graphs whenever it starts, which takes seconds; this makes them once."""
    from worker.inference.graphs import add_graphs  # noqa: PLC0415  # loads torch

    try:
        folder = find_bundle(bundle)
        with NewBundle(folder, replace=True) as path:
            shutil.copytree(folder, path, dirs_exist_ok=True)
            add_graphs(path)
    except BundleError as error:
        raise CommandError(str(error)) from None
    typer.echo(f"written: {folder}", err=True)
