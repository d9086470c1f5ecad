"""`python -m worker evaluate`: metrics of a bundle's ensemble and of each member on labelled data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from model_store.bundle import BundleError, find_bundle, load_bundle
from worker.commands.job_options import PRIOR_HELP, job_options
from worker.core.devices import prepare
from worker.ensemble.fusion import NoPriorError, prior_in_use
from worker.errors import CommandError
from worker.inference.bundles import build_ensemble, crop_spec
from worker.training.errors import TrainingError
from worker.training.evaluate import evaluate
from worker.training.journal import Journal
from worker.training.labelled import labelled_clips
from worker.training.pictures import draw_report
from worker.training.place import find_place
from worker.training.report import as_text


def command(
    data: Annotated[Path, typer.Option(help="Stills .npz, Aff-Wild2 folder (validation split), or CSV.")],
    bundle: Annotated[str, typer.Option(help="Name or folder of the bundle.")] = "default",
    layout: Annotated[str, typer.Option(help="stills, affwild2 or manifest.")] = "stills",
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Folder for PNGs: confusion matrix and per-class bars.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    prior: Annotated[str | None, typer.Option(help=PRIOR_HELP)] = None,
) -> None:
    """Measure a bundle on labelled data."""
    wanted = job_options(prior=prior).prior_share
    try:
        loaded = load_bundle(find_bundle(bundle))
        manifest = loaded.manifest
        clips = labelled_clips(layout, data, crop_spec(manifest.input), manifest.labels, manifest.window)
        place = find_place(device)
        ensemble = build_ensemble(loaded)
        prior_in_use(ensemble.prior, wanted)  # before hours are spent
        prepare(place.device)
        for module in ensemble.modules():
            module.to(place.device)
        report = evaluate(ensemble, clips, Journal(None), wanted)
        pictures = draw_report(report, manifest.labels, picture) if picture is not None else []
    except (TrainingError, BundleError, NoPriorError) as error:
        raise CommandError(str(error)) from None
    if json_:
        json.dump(report, sys.stdout)
        print()
        return
    print(as_text(report))
    for path in pictures:
        print(f"drawn: {path}")
