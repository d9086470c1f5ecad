"""The detector's task for the trainer: scenes drawn in processes of their own, the loss, and validation.

After every epoch the network looks at the faceless pictures of the training data; where it sees a face, the next
epoch's empty scenes look too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from worker.faces.network import DetectorNet, all_cells, decoded, flat
from worker.training.detector.material import FACE_NUMBERS, Material
from worker.training.detector.scenes import Composer, FalseBox
from worker.training.detector.settings import DetectorSettings
from worker.training.detector.targets import assign, detection_loss
from worker.training.detector.validation import Validation, mistakes
from worker.training.place import Place

SCENE_SEED = 11
BATCHES_AHEAD = 6


@dataclass(frozen=True)
class SceneBatch:
    """pixels: (B, S, S, 3) uint8.  faces: (B, K, 14) and unsure: (B, M, 4), filled up with NaN."""

    pixels: Tensor
    faces: Tensor
    unsure: Tensor


class SceneBatches(Dataset[SceneBatch]):
    """Item i is batch i of the list of scene numbers; every scene is drawn from (seed, epoch, its number)."""

    def __init__(self, composer: Composer, order: list[Tensor], seed: int, epoch: int, sides: list[int]) -> None:
        self.composer, self.order, self.seed, self.epoch, self.sides = composer, order, seed, epoch, sides

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, step: int) -> SceneBatch:
        scenes = [
            self.composer.scene(np.random.default_rng((self.seed, SCENE_SEED, self.epoch, item)), self.sides[step])
            for item in self.order[step].tolist()
        ]
        return SceneBatch(
            torch.from_numpy(np.stack([scene.image for scene in scenes])),
            _filled([scene.face_rows() for scene in scenes], FACE_NUMBERS),
            _filled([scene.unsure_rows() for scene in scenes], 4),
        )


class DetectorTask:
    """See `worker.training.loop.Task`."""

    draw_weights: Tensor | None = None

    def __init__(
        self,
        settings: DetectorSettings,
        train: Material,
        validation: Validation,
        net: DetectorNet,
        place: Place,
        run_dir: Path,
        loaders: int,
    ) -> None:
        self.settings, self.train, self.validation, self.place, self.run_dir = (
            settings,
            train,
            validation,
            place,
            run_dir,
        )
        self.model: nn.Module = net.to(place.device)
        self.size = settings.scenes_an_epoch
        self.loaders = loaders
        self.epochs_seen = 0

    def batches(self, order: list[Tensor], epoch: int, first_step: int) -> Iterator[SceneBatch]:
        """Batches of an epoch, composed ahead in other processes."""
        sides = [self.settings.scenes.sides[step % len(self.settings.scenes.sides)] for step in range(len(order))]
        wrong = self._false_boxes(epoch)
        composer = Composer(self.train, self.settings.scenes, wrong, self.settings.mined, self.validation.teach)
        data = SceneBatches(composer, order, self.settings.seed, epoch, sides)
        steps = list(range(first_step, len(order)))
        loader = DataLoader(
            data, None, sampler=steps, num_workers=self.loaders, prefetch_factor=BATCHES_AHEAD, worker_init_fn=alone
        )
        for batch in loader:
            yield self._on_device(batch)

    def loss(self, model: nn.Module, batch: SceneBatch) -> Tensor:
        """Of a batch on the device."""
        pixels = batch.pixels.permute(0, 3, 1, 2).float() / 255  # (B, 3, S, S), channels last in memory
        centres, strides = all_cells(pixels.shape[2], pixels.shape[3], pixels.device)
        targets = assign(centres, strides, batch.faces, batch.unsure, self.settings.loss)
        answers = decoded(flat(model(pixels)), centres, strides)
        return detection_loss(answers, targets, batch.faces, self.settings.loss)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Measures on held-out scenes and backgrounds; and writes down what the next epoch should look at."""
        if not isinstance(model, DetectorNet):
            raise TypeError(f"expected a DetectorNet, got {type(model).__name__}")
        found = mistakes(model, self.train.faceless, self.place.device)
        self.epochs_seen += 1
        write_false_boxes(self.false_boxes_file(self.epochs_seen), found)
        return self.validation.measure(model, self.place.device) | {"mistakes": float(len(found))}

    def false_boxes_file(self, epoch: int) -> Path:
        """What the network got wrong before epoch `epoch`, counted from 0."""
        return self.run_dir / f"mistakes-{epoch:03}.json"

    def _false_boxes(self, epoch: int) -> list[FalseBox]:
        # Kept in files, so that a resumed epoch looks at the same places as an undisturbed one.
        self.epochs_seen = epoch
        path = self.false_boxes_file(epoch)
        return read_false_boxes(path) if epoch and path.exists() else []

    def _on_device(self, batch: SceneBatch) -> SceneBatch:
        device = self.place.device
        return SceneBatch(batch.pixels.to(device), batch.faces.to(device), batch.unsure.to(device))


def write_false_boxes(path: Path, boxes: list[FalseBox]) -> None:
    """As JSON, whole or not at all."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps([asdict(box) for box in boxes]))
    os.replace(partial, path)


def read_false_boxes(path: Path) -> list[FalseBox]:
    """What `write_false_boxes` wrote."""
    return [FalseBox(**box) for box in json.loads(path.read_text())]


def _filled(rows: list[np.ndarray], numbers: int) -> Tensor:
    most = max(len(row) for row in rows)
    filled = np.full((len(rows), most, numbers), np.nan, np.float32)
    for i, row in enumerate(rows):
        filled[i, : len(row)] = row
    return torch.from_numpy(filled)


def alone(_: int) -> None:
    """What a loader's process does first: one core is its share."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
