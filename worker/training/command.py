"""What `python -m worker train ensemble` does, from its options to the measured bundle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model_store.bundle import MANIFEST_FILE, BundleError, load_bundle
from model_store.manifest import Measurement
from worker.bundles import build_ensemble, crop_spec
from worker.crops import CropSpec
from worker.training.clip_benchmark import BENCHMARK_SEED, as_measurements, benchmark
from worker.training.ensemble import Source, run_signature, train_ensemble
from worker.training.errors import CheckpointError, DataError, TrainingError
from worker.training.evaluate import evaluate
from worker.training.export import DataTerms, add_measurements, provenance, write_bundle
from worker.training.fingerprint import current_commit, sha256_of
from worker.training.journal import Journal
from worker.training.labelled import labelled_clips
from worker.training.loop import Run
from worker.training.metrics import headline
from worker.training.place import find_place, leave
from worker.training.recipes import ALIGNMENTS, Settings
from worker.training.stills_source import StillsSource
from worker.training.video_source import VideoSource

SETTINGS_FILE = "settings.json"
MEASURED_CLIPS = 300
FER_TERMS = DataTerms(
    "FER+ / FER2013: grey 48-pixel face crops collected from the web for the ICML 2013 challenge in representation "
    "learning; labels are the votes of ten FER+ taggers, with a share of the older FER2013 label.",
    "FER+ votes: MIT licence, Microsoft. The images were collected from the web for research; they served for training "
    "and measuring only, and none is distributed with the bundle.",
    "MIT for the weights; read the terms of the training data before commercial use",
)
AFFWILD2_TERMS = DataTerms(
    "Aff-Wild2, expression set: videos from the web, labelled frame by frame, with aligned face crops.",
    "Aff-Wild2 is for non-commercial research and needs its owners' permission; no frame is distributed with the "
    "bundle.",
    "non-commercial research, as the training data",
)
OWN_TERMS = DataTerms(
    "The user's own labelled images.",
    "As the user's data; no image is distributed with the bundle.",
    "set by whoever trained it",
)


@dataclass(frozen=True)
class Order:
    """The command's options."""

    settings: Settings
    layout: str
    data: Path
    validation: Path | None
    out: Path
    run_dir: Path
    resume: bool
    device: str
    backbone: Path | None
    name: str
    version: str
    licence: str | None


def train(order: Order) -> None:
    """Train, write the bundle, measure it on the validation data.

    Raises: TrainingError with the one line that the user reads.
    """
    _check(order)
    commit = current_commit()  # now: the checkout may move on while this process trains
    place = find_place(order.device)
    journal = Journal(order.run_dir, shown=place.first)
    cv2.setNumThreads(1)  # decoding and drawing share the machine with the networks
    try:
        crop = crop_of(order.settings)
        source, terms = open_source(order, crop)
        files = source.fingerprints()
        if order.backbone is not None:
            files[order.backbone.name] = sha256_of(order.backbone)
        signature = run_signature(order.settings, files, place.world)
        if place.first:
            _prepare_run(order, signature)
        place.wait()
        run = Run(
            order.run_dir,
            place,
            journal,
            order.settings.seed,
            order.settings.half_precision,
            signature,
            order.resume,
        )
        trained = train_ensemble(order.settings, source, run, order.backbone)
        if place.first:
            origin = provenance(order.settings, terms, files, commit, clips_from_stills=source.clips_from_stills)
            licence = order.licence or terms.licence
            write_bundle(order.out, trained, order.settings, origin, order.name, order.version, licence)
            _measure(order, journal)
            journal.say(f"{order.out} is ready")
        place.wait()
    except BundleError as error:
        raise TrainingError(str(error)) from None
    finally:
        journal.close()
        leave(place)


def crop_of(settings: Settings) -> CropSpec:
    """The crops that the settings ask for, in the words of the crop code."""
    alignment = ALIGNMENTS[settings.input.alignment]
    return CropSpec(
        size=settings.input.size,
        colour=settings.input.colour,
        landmarks=np.asarray(alignment.landmarks, np.float32),
        box_scale=alignment.box_scale,
        box_shift_y=alignment.box_shift_y,
    )


def open_source(order: Order, crop: CropSpec) -> tuple[Source, DataTerms]:
    """Read and check the data of the order's layout.  Raises: DataError."""
    if order.layout == "stills":
        return StillsSource(order.data, order.validation, order.settings, crop), FER_TERMS
    if order.layout == "affwild2":
        return VideoSource.from_affwild2(order.data, order.settings, crop), AFFWILD2_TERMS
    if order.layout == "manifest":
        return VideoSource.from_manifest(order.data, order.validation, order.settings, crop), OWN_TERMS
    raise DataError(f"no layout {order.layout!r}: stills, affwild2 or manifest")


def _check(order: Order) -> None:
    if order.out.exists() and any(order.out.iterdir()) and not (order.out / MANIFEST_FILE).is_file():
        raise TrainingError(f"{order.out} is not empty and no bundle: name a new folder with --out")
    if not order.data.exists():
        raise DataError(f"{order.data} does not exist")


def _prepare_run(order: Order, signature: str) -> None:
    kept = sorted(order.run_dir.glob("*.pt"))
    if kept and not order.resume:
        raise CheckpointError(f"{order.run_dir} holds an earlier run: add --resume, or name another --run-dir")
    order.run_dir.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"signature": signature, "settings": asdict(order.settings)}
    (order.run_dir / SETTINGS_FILE).write_text(json.dumps(content, indent=2) + "\n")


def _measure(order: Order, journal: Journal) -> None:
    bundle = load_bundle(order.out)
    ensemble = build_ensemble(bundle)
    manifest = bundle.manifest
    validation = order.validation or order.data
    data = labelled_clips(order.layout, validation, crop_spec(manifest), manifest.labels, manifest.window)
    report = evaluate(ensemble, data, journal)
    shown = f"--data {Path(data.name).name} --layout {order.layout}"
    measurements = [
        Measurement(
            data=f"{Path(data.name).name} (validation)",
            labels=labels,
            command=f"python -m worker evaluate --bundle {order.name} {shown} --json",
            ensemble=headline(result["ensemble"]),
            members={name: headline(found) for name, found in result["members"].items()},
        )
        for labels, result in report["results"].items()
    ]
    if order.layout == "stills":
        clips = benchmark(str(order.out), Path(data.name), MEASURED_CLIPS, BENCHMARK_SEED)
        measurements += as_measurements(clips | {"bundle": order.name})
    add_measurements(order.out, manifest, measurements)
    for found in measurements:
        journal.say(f"{found.labels}: {found.ensemble}")
