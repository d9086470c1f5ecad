"""What `python -m worker train detector` does, from its options to the measured detector."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import torch

from model_store.bundle import BundleError
from worker.faces.network import DetectorNet, initialise
from worker.faces.yunet import DetectorError, YuNet
from worker.training.detector.export import write_detector
from worker.training.detector.material import BACKGROUNDS_FILE, FACES_FILE, Material, load_material, split
from worker.training.detector.settings import DetectorSettings, as_json
from worker.training.detector.task import DetectorTask, SceneBatch
from worker.training.detector.validation import Validation
from worker.training.errors import CheckpointError, DataError, TrainingError
from worker.training.fingerprint import current_commit, sha256_of, signature_of
from worker.training.journal import Journal
from worker.training.loop import METRIC, Outcome, Run, Trainer
from worker.training.place import find_place, leave

STAGE = "detector"
SETTINGS_FILE = "settings.json"
CORES_A_LOADER = 2  # one of so many cores composes scenes


@dataclass(frozen=True)
class DetectorOrder:
    """The command's options."""

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


def train_detector(order: DetectorOrder) -> None:
    """Train, choose the threshold on held-out data, write the detector.

    Raises: TrainingError with the one line that the user reads.
    """
    if not order.data.is_dir():
        raise DataError(f"{order.data} is not a folder with {FACES_FILE} and {BACKGROUNDS_FILE}")
    commit = current_commit()  # now: the checkout may move on while this process trains
    place = find_place(order.device)
    journal = Journal(order.run_dir, shown=place.first)
    cv2.setNumThreads(1)
    loaders = order.settings.loaders or max((os.cpu_count() or 1) // CORES_A_LOADER, 1)
    if place.device.type == "cpu":  # threads that wait for a core that composes scenes would spin
        torch.set_num_threads(max((os.cpu_count() or 1) - loaders, 1))
    try:
        files = {name: sha256_of(order.data / name) for name in (FACES_FILE, BACKGROUNDS_FILE)}
        if order.teacher is not None:
            files[order.teacher.name] = sha256_of(order.teacher)
        signature = signature_of(as_json(replace(order.settings, loaders=0)), files, place.world)
        if place.first:
            _prepare_run(order, signature, commit)
        place.wait()
        train, held_out = _material(order)
        journal.say(
            f"{len(train.portraits)} portraits, {len(train.faceless)} backgrounds, {len(train.people)} of people"
        )
        run = Run(
            order.run_dir, place, journal, order.settings.seed, order.settings.half_precision, signature, order.resume
        )
        task = DetectorTask(
            order.settings,
            train,
            Validation(held_out, order.settings.scenes, order.settings.small_bonus),
            new_net(order.settings),
            place,
            order.run_dir,
            loaders,
        )
        outcome = Trainer[SceneBatch](STAGE, task, order.settings.stage, run).run()
        if place.first:
            _write(order, outcome, files)
            journal.say(f"{order.out} is ready")
        place.wait()
    except BundleError as error:
        raise TrainingError(str(error)) from None
    finally:
        journal.close()
        leave(place)


def new_net(settings: DetectorSettings) -> DetectorNet:
    """An untrained network, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        net = DetectorNet(settings.sizes)
        initialise(net)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _write(order: DetectorOrder, outcome: Outcome, files: dict[str, str]) -> None:
    started = json.loads((order.run_dir / SETTINGS_FILE).read_text())
    teacher = f" --teacher {order.teacher.name}" if order.teacher else ""
    command = f"python -m worker train detector --data {order.data.name}{teacher} --out {order.out.name}"
    measured = {name: value for name, value in outcome.metrics.items() if name != METRIC}
    names = (order.name, order.version)
    write_detector(
        order.out, outcome.state, order.settings, files, started["commit"], names, command, measured, order.licence
    )


def _material(order: DetectorOrder) -> tuple[Material, Material]:
    try:
        teacher = YuNet(order.teacher) if order.teacher is not None else None
    except DetectorError as error:
        raise DataError(str(error)) from None
    material = load_material(order.data, teacher)
    return split(material, order.settings.held_out_portraits, order.settings.held_out_backgrounds)


def _prepare_run(order: DetectorOrder, signature: str, commit: str | None) -> None:
    kept = sorted(order.run_dir.glob("*.pt"))
    if kept and not order.resume:
        raise CheckpointError(f"{order.run_dir} holds an earlier run: add --resume, or name another --run-dir")
    if kept:
        return
    order.run_dir.mkdir(parents=True, exist_ok=True)
    content = {"signature": signature, "commit": commit, "settings": as_json(order.settings)}
    (order.run_dir / SETTINGS_FILE).write_text(json.dumps(content, indent=2) + "\n")
