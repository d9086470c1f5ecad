"""`python -m worker evaluate`: metrics of a bundle's ensemble and of each member on labelled data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from app.contract.options import JobOptions
from model_store.bundle import BundleError, find_bundle, load_bundle, read_manifest
from worker.commands.job_options import PRIOR_HELP, job_options
from worker.core.cuda import prepare
from worker.core.devices import DeviceError, DeviceFailedError
from worker.ensemble.fusion import NoPriorError, prior_in_use
from worker.ensemble.precision import PrecisionError
from worker.errors import CommandError
from worker.faces import DetectorError
from worker.inference import serving
from worker.inference.bundles import build_ensemble
from worker.inference.specs import crop_spec
from worker.settings import WorkerSettings, decode_limits
from worker.training.errors import TrainingError
from worker.training.evaluate import evaluate
from worker.training.journal import Journal
from worker.training.label_names import LabelNames
from worker.training.labelled import labelled_clips
from worker.training.pictures import draw_report
from worker.training.place import find_place
from worker.training.report import as_text
from worker.training.video_report import as_text as videos_as_text
from worker.training.video_report import evaluate_videos
from worker.training.whole_videos import read_videos


def command(
    data: Annotated[Path, typer.Option(help="Stills .npz, Aff-Wild2 folder (validation split), or CSV.")],
    bundle: Annotated[str, typer.Option(help="Name or folder of the bundle.")] = "default",
    layout: Annotated[str, typer.Option(help="stills, affwild2, manifest, or clips: videos, through the pipeline.")] = (
        "stills"
    ),
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Folder for PNGs: confusion matrix and per-class bars.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    prior: Annotated[str | None, typer.Option(help=PRIOR_HELP)] = None,
    faces: Annotated[Literal["detect", "cropped"], typer.Option(help="clips: cropped, every frame is one face")] = (
        "detect"
    ),
    sample_fps: Annotated[float | None, typer.Option(help="clips: label at most this many frames per second")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="clips: videos to label at once")] = 1,
) -> None:
    """Measure a bundle on labelled data."""
    options = job_options(prior=prior, faces=faces, sample_fps=sample_fps)
    try:
        if layout == "clips":
            report, labels = _videos(data, bundle, device, options, concurrency)
        elif (faces, sample_fps, concurrency) == ("detect", None, 1):
            report, labels = _crops(layout, data, bundle, device, options)
        else:
            raise typer.BadParameter("--faces, --sample-fps and --concurrency need --layout clips")
        pictures = draw_report(report, labels, picture) if picture is not None else []
    except (
        TrainingError,
        BundleError,
        NoPriorError,
        DeviceError,
        DeviceFailedError,
        DetectorError,
        PrecisionError,
    ) as error:
        raise CommandError(str(error)) from None
    if json_:
        json.dump(report, sys.stdout)
        print()
        return
    print(videos_as_text(report) if layout == "clips" else as_text(report))
    for path in pictures:
        print(f"drawn: {path}")


def _crops(
    layout: str, data: Path, bundle: str, device: str, options: JobOptions
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Evaluate the networks alone on face crops -> the report and the bundle's labels."""
    loaded = load_bundle(find_bundle(bundle))
    manifest = loaded.manifest
    clips = labelled_clips(layout, data, crop_spec(manifest.input), manifest.labels, manifest.window)
    place = find_place(device)
    ensemble = build_ensemble(loaded)
    prior_in_use(ensemble.prior, options.prior_share)  # fail early
    prepare(place.device)
    for module in ensemble.modules():
        module.to(place.device)
    return evaluate(ensemble, clips, Journal(None), options.prior_share), manifest.labels


def _videos(
    data: Path, bundle: str, device: str, options: JobOptions, concurrency: int
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Evaluate the whole pipeline on videos -> the report and the bundle's labels."""
    labels = read_manifest(find_bundle(bundle)).labels
    given = read_videos(data, LabelNames(labels))
    settings = WorkerSettings(bundle=bundle, device=device)
    loaded = serving.load(settings, jobs=concurrency)
    limits = decode_limits(settings)
    return evaluate_videos(loaded, str(data), given, options, limits, Journal(None), concurrency), labels
