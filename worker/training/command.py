"""`python -m worker train`: from its options to the measured bundle."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from model_store.bundle import MANIFEST_FILE, BundleError, load_bundle
from model_store.manifest import Manifest, Measurement
from worker.core.cuda import prepare
from worker.crops import CropSpec
from worker.ensemble.precision import PrecisionError
from worker.inference.bundles import build_ensemble
from worker.inference.graphs import add_graphs
from worker.inference.specs import crop_spec
from worker.training.clip_benchmark import BENCHMARK_SEED, as_measurements, benchmark
from worker.training.ensemble import Source, run_signature, train_ensemble
from worker.training.errors import DataError, TrainingError
from worker.training.evaluate import LabelledClips, evaluate
from worker.training.export import DataTerms, add_measurements, input_spec, provenance, write_bundle
from worker.training.fingerprint import sha256_of
from worker.training.int8 import make_int8
from worker.training.journal import Journal
from worker.training.labelled import labelled_clips, labelled_stills
from worker.training.metrics import headline
from worker.training.place import leave
from worker.training.recipes import Settings, StillsSettings
from worker.training.session import training_session
from worker.training.stills_source import StillsSource
from worker.training.teacher import PACKAGE
from worker.training.video_source import VideoSource

MEASURED_CLIPS = 300
FER_TERMS = DataTerms(
    "FER+ / FER2013: grey 48-pixel face crops collected from the web for the ICML 2013 challenge in representation "
    "learning; labels are the votes of ten FER+ taggers and the older FER2013 label, each learnt by a classifier "
    "of its own.",
    "FER+ votes: MIT licence, Microsoft. The images were collected from the web for research; they served for training "
    "and measuring only, and none is distributed with the bundle.",
    "MIT for the weights; read the terms of the training data before commercial use",
)
PORTRAITS_USED = (
    "Portraits from the repository muxspace/facial_expressions, mostly of the press, with one noisy label each, seven "
    "of ten of them; the others were kept apart.",
    "Portraits and their labels: Apache-2.0 as the repository says; rights in the pictures are their photographers'.",
)
TEACHER_USED = (
    f"A teacher answered on every face: the expression network of the npm package {PACKAGE}.",
    f"{PACKAGE}: MIT licence, Copyright (c) Vladimir Mandic; what it was trained on is not told.",
)
BESIDE = "Its weights without the last layer are part of the bundle's backbone."
NOT_BESIDE = "Its weights are not in the bundle."
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
    teacher: Path | None
    name: str
    version: str
    licence: str | None


def train(order: Order) -> None:
    """Train, write the bundle, measure it on the validation data.

    Raises: TrainingError with the one line that the user reads.
    """
    _check(order)
    with training_session(order.device, order.run_dir, resume=order.resume) as session:
        source, terms = open_source(order, crop_spec(input_spec(order.settings.input)), session.journal)
        files = source.fingerprints()
        if order.backbone is not None:
            files[order.backbone.name] = sha256_of(order.backbone)
            terms = terms.started_from(order.backbone.name)
        run = session.run(order.settings, run_signature(order.settings, files, session.place.world))
        trained = train_ensemble(order.settings, source, run, order.backbone)
        session.place.wait()  # other processes end here, since only the first does the rest, which takes long
        leave(session.place)
        if session.place.first:
            origin = provenance(
                order.settings, terms, files, session.commit, clips_from_stills=source.clips_from_stills
            )
            licence = order.licence or terms.licence
            write_bundle(order.out, trained, order.settings, origin, order.name, order.version, licence)
            _add_graphs(order.out, session.journal)
            _measure(order, session.journal, session.place.device)
            session.journal.say(f"{order.out} is ready")


def stills_terms(used: StillsSettings) -> DataTerms:
    """Terms of the stills and of what else a recipe trains on beside them."""
    more = [PORTRAITS_USED] if used.portraits else []
    if used.teacher or used.teacher_beside:
        description, terms = TEACHER_USED
        more.append((description, f"{terms} {BESIDE if used.teacher_beside else NOT_BESIDE}"))
    return dataclasses.replace(
        FER_TERMS,
        description=" ".join([FER_TERMS.description, *(description for description, _ in more)]),
        terms=" ".join([FER_TERMS.terms, *(terms for _, terms in more)]),
    )


def open_source(order: Order, crop: CropSpec, journal: Journal) -> tuple[Source, DataTerms]:
    """Read and check the data of the order's layout.  Raises: DataError."""
    if order.layout == "stills":
        source = StillsSource(order.data, order.validation, order.settings, crop, order.run_dir, journal, order.teacher)
        return source, stills_terms(order.settings.stills)
    if order.layout == "affwild2":
        return VideoSource.from_affwild2(order.data, order.settings, crop), AFFWILD2_TERMS
    if order.layout == "manifest":
        return VideoSource.from_manifest(order.data, order.validation, order.settings, crop), OWN_TERMS
    raise DataError(f"no layout {order.layout!r}: stills, affwild2 or manifest")


def _check(order: Order) -> None:
    if order.out.exists() and any(order.out.iterdir()) and not (order.out / MANIFEST_FILE).is_file():
        raise TrainingError(f"{order.out} is not empty and not a bundle: name a new folder with --out")
    if not order.data.exists():
        raise DataError(f"{order.data} does not exist")


def _add_graphs(folder: Path, journal: Journal) -> None:
    """A bundle that cannot be converted is kept; it serves on a GPU."""
    try:
        add_graphs(folder)
    except BundleError as error:
        journal.say(f"no graphs for a CPU: {error}")


def _calibration(order: Order, manifest: Manifest) -> LabelledClips | None:
    """The stills that were trained on; None for other layouts, or where the data is one file."""
    found = sorted(order.data.glob("*train*.npz")) if order.layout == "stills" else []
    return labelled_stills(found[0], crop_spec(manifest.input), manifest.labels, manifest.window) if found else None


def _measure(order: Order, journal: Journal, device: torch.device) -> None:
    bundle = load_bundle(order.out)
    ensemble = build_ensemble(bundle)
    prepare(device)
    for module in ensemble.modules():
        module.to(device)
    manifest = bundle.manifest
    validation = order.validation or order.data
    data = labelled_clips(order.layout, validation, crop_spec(manifest.input), manifest.labels, manifest.window)
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
        clips = benchmark(str(order.out), Path(data.name), MEASURED_CLIPS, BENCHMARK_SEED, device)
        measurements += as_measurements(clips | {"bundle": order.name})
    add_measurements(order.out, manifest, measurements)
    if order.settings.int8:
        try:
            make_int8(order.out, data, _calibration(order, manifest), journal)
        except (DataError, PrecisionError, BundleError) as error:  # the bundle is complete without
            journal.say(f"no int8: {error}")
    for found in measurements:
        journal.say(f"{found.labels}: {found.ensemble}")
