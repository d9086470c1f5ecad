"""What `python -m worker train detector` does, from its options to the measured detector."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from model_store.detector import StoredDetector, load_detector
from worker.faces.network import DetectorNet, initialise
from worker.faces.refinement import RefinementNet
from worker.faces.refinement import initialise as begin_refinement
from worker.faces.yunet import DetectorError, YuNet
from worker.inference.detectors import build_mien
from worker.training.detector.export import LANDMARKS_SETTINGS, Names, Origin, kept, trained, write_detector
from worker.training.detector.material import (
    BACKGROUNDS_FILE,
    FACES_FILE,
    TIGHT_FILE,
    Material,
    load_material,
    split,
)
from worker.training.detector.refining import RefinementTask, ViewBatch, ask_again, upright_faces
from worker.training.detector.settings import DetectorSettings, as_json
from worker.training.detector.task import DetectorTask, SceneBatch
from worker.training.detector.teaching import teach
from worker.training.detector.validation import Validation
from worker.training.errors import DataError
from worker.training.fingerprint import sha256_of, signature_of
from worker.training.loop import Outcome, Run, Trainer, check_shares
from worker.training.session import training_session

FINDING, LANDMARKS = "detector", "landmarks"  # the stages, as checkpoints and curves name them
CORES_A_LOADER = 2  # one of so many cores composes scenes


@dataclass(frozen=True)
class DetectorOrder:
    """The command's options.  network: a stored detector whose network is kept, so that only landmarks are trained."""

    settings: DetectorSettings
    data: Path
    teacher: Path | None
    out: Path
    run_dir: Path
    resume: bool
    device: str
    name: str = "default"
    version: str = "1"
    licence: str | None = None
    network: Path | None = None


def train_detector(order: DetectorOrder) -> None:
    """Train, choose the threshold on held-out data, write the detector.

    Raises: TrainingError with the one line that the user reads.
    """
    if not order.data.is_dir():
        raise DataError(f"{order.data} is not a folder with {FACES_FILE} and {BACKGROUNDS_FILE}")
    with training_session(order.device, order.run_dir, resume=order.resume) as session:
        place, journal = session.place, session.journal
        loaders = order.settings.loaders or max((os.cpu_count() or 1) // CORES_A_LOADER, 1)
        if place.device.type == "cpu":  # threads that wait for a core that composes scenes would spin
            torch.set_num_threads(max((os.cpu_count() or 1) - loaders, 1))
        files = {name: sha256_of(order.data / name) for name in (FACES_FILE, BACKGROUNDS_FILE)}
        if order.teacher is not None:
            files[order.teacher.name] = sha256_of(order.teacher)
            if (order.data / TIGHT_FILE).exists():
                files[TIGHT_FILE] = sha256_of(order.data / TIGHT_FILE)
        for name, stage in (("stage", order.settings.stage), ("landmarks", order.settings.landmarks)):
            check_shares(name, stage, place)  # now, not after hours of what comes before
        stored = None if order.network is None else _stored(order.network)
        how = as_json(replace(order.settings, loaders=0))
        run = session.run(order.settings, signature_of(how, files, place.world))
        teacher = _teacher(order)
        material = load_material(order.data, teacher)
        if teacher is None:
            journal.say("no --teacher: landmarks are learnt from the data's own, one answer for each face")
        else:
            material = ask_again(material, teacher, run, files, order.settings.loaders or os.cpu_count() or 1)
        train, held_out = split(material, order.settings.held_out_portraits, order.settings.held_out_backgrounds)
        journal.say(
            f"{len(train.portraits)} portraits, {len(train.tight)} tight faces, {len(train.faceless)} backgrounds, "
            f"{len(train.people)} of people"
        )
        if stored is None:
            # What only the second stage needs may change while the first one's weights are kept.
            first = {name: value for name, value in how.items() if name not in LANDMARKS_SETTINGS}
            run_first = replace(run, signature=signature_of(first, files, place.world))
            outcome = _train_finding(order.settings, train, held_out, run_first, teacher, loaders)
            finding = trained(outcome, order.settings, _command(order))
        else:
            finding = kept(stored)
        landmarks = _train_landmarks(order.settings, train, held_out, run)
        if place.first:
            names = Names(order.name, order.version, order.licence or finding.licence)
            origin = Origin(files, _command(order), session.started()["commit"])
            write_detector(order.out, names, finding, landmarks, order.settings, origin)
            journal.say(f"{order.out} is ready")


def _train_finding(
    settings: DetectorSettings, train: Material, held_out: Material, run: Run, teacher: YuNet | None, loaders: int
) -> Outcome:
    """The first stage: the network that finds faces."""
    teaching = None if teacher is None else partial(teach, teacher=teacher)
    validation = Validation(held_out, settings.scenes, settings.small_bonus, teaching)
    task = DetectorTask(settings, train, validation, new_net(settings), run.place, run.folder, loaders)
    return Trainer[SceneBatch](FINDING, task, settings.stage, run).run()


def _train_landmarks(settings: DetectorSettings, train: Material, held_out: Material, run: Run) -> Outcome:
    """The second stage: the network that makes landmarks exact."""
    if run.place.device.type == "cpu":
        torch.set_num_threads(max((os.cpu_count() or 1) // run.place.world, 1))  # views are drawn in this process
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        net = RefinementNet(settings.refinement)
        begin_refinement(net)
    faces = upright_faces([*train.portraits, *train.tight], np.concatenate([train.faces, train.tight_faces]))
    task = RefinementTask(settings, faces, upright_faces(held_out.portraits, held_out.faces), net, run.place)
    return Trainer[ViewBatch](LANDMARKS, task, settings.landmarks, run).run()


def new_net(settings: DetectorSettings) -> DetectorNet:
    """An untrained network, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        net = DetectorNet(settings.sizes)
        initialise(net)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _command(order: DetectorOrder) -> str:
    options = f" --teacher {order.teacher.name}" if order.teacher else ""
    options += f" --network {order.network.name}" if order.network else ""
    return f"python -m worker train detector --data {order.data.name}{options} --out {order.out.name}"


def _stored(folder: Path) -> StoredDetector:
    """A detector whose network can be kept.  Raises: BundleError."""
    stored = load_detector(folder)
    build_mien(stored, torch.device("cpu"))  # one that does not fit its manifest is told now and not when it serves
    return stored


def _teacher(order: DetectorOrder) -> YuNet | None:
    try:
        return YuNet(order.teacher) if order.teacher is not None else None
    except DetectorError as error:
        raise DataError(str(error)) from None
