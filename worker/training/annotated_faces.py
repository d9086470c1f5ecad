"""The faces of the stills layout, each with its annotations.

votes: the FER+ taggers'.  fer2013: the older single label of the same image.  portraits: the label of a portrait, by
one person.  teacher: what a network of others answers, on every face.  An annotator that said nothing of a face has a
row of zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from worker.crops import CropSpec, Image, crop_whole
from worker.training.journal import Journal
from worker.training.portraits import FILES as PORTRAIT_FILES
from worker.training.portraits import read_portraits
from worker.training.recipes import StillsSettings
from worker.training.stills import LABELS, Stills
from worker.training.teacher import PACKAGE_SHA256, Teacher, crops_for

VOTES, OLDER, PORTRAITS, TEACHER = "votes", "fer2013", "portraits", "teacher"
ANSWERS_FILE = "teacher.npz"


@dataclass(frozen=True)
class AnnotatedFaces:
    """crops: (N, size, size, C) uint8.  sharp: (N,) bool, those that were not enlarged.

    targets: by annotation (N, K) float32, rows sum to 1 or 0.  weights: the annotations'.
    """

    crops: Tensor
    sharp: Tensor
    targets: dict[str, Tensor]
    weights: dict[str, float]

    def __len__(self) -> int:
        return len(self.crops)

    def chosen(self, rows: Tensor) -> AnnotatedFaces:
        """Those rows."""
        targets = {name: target[rows] for name, target in self.targets.items()}
        return AnnotatedFaces(self.crops[rows], self.sharp[rows], targets, self.weights)

    def together(self) -> Tensor:
        """(N, K) weighted mean of each face's annotations, rows sum to 1."""
        parts = torch.stack([target * self.weights[name] for name, target in self.targets.items()]).sum(dim=0)
        return parts / parts.sum(dim=1, keepdim=True)

    def shares(self, name: str, draw_weights: Tensor | None) -> Tensor:
        """(K,) shares of an annotation's labels among the faces, drawn as often as the weights (N,) say."""
        target = self.targets[name]
        found = (target if draw_weights is None else target * draw_weights[:, None]).sum(dim=0)
        return found / found.sum()


def annotation_weights(settings: StillsSettings) -> dict[str, float]:
    """The annotations that a recipe uses, with their weights in what is served."""
    weights = {
        VOTES: settings.votes,
        OLDER: settings.fer2013,
        PORTRAITS: settings.portraits,
        TEACHER: settings.teacher,
    }
    return {name: weight for name, weight in weights.items() if weight}


def gather(
    stills: Stills, folder: Path, teacher: Teacher | None, run_dir: Path, crop: CropSpec, settings: StillsSettings,
    journal: Journal,
) -> AnnotatedFaces:  # fmt: skip
    """All faces of a training.  folder: where portraits lie.  run_dir: keeps the teacher's answers.

    Raises: DataError if the recipe uses portraits or a teacher that are not there.
    """
    weights = annotation_weights(settings)
    count = len(stills)
    crops = [still_crops(stills.images, crop)]
    said = {VOTES: torch.from_numpy(stills.vote_shares()), OLDER: one_hot(stills.fer2013)}
    seen: list[Image] = []
    if PORTRAITS in weights:
        portraits = read_portraits(folder, kept_apart=False)
        crops.append(torch.from_numpy(portraits.crops(crop)))
        said[PORTRAITS] = torch.cat([torch.zeros(count, len(LABELS)), one_hot(portraits.labels)])
        seen.append(portraits.crops(crops_for(crop)))
    faces = torch.cat(crops)
    if TEACHER in weights and teacher is not None:
        said[TEACHER] = _answers(stills.images, seen, teacher, run_dir, crop, journal)
    targets = {name: _padded(said[name], len(faces)) for name in weights}
    known = torch.stack(list(targets.values())).sum(dim=(0, 2)) > 0
    return AnnotatedFaces(faces, torch.arange(len(faces)) >= count, targets, weights).chosen(known)


def source_files(folder: Path, teacher: Path | None, settings: StillsSettings) -> list[Path]:
    """Files beside the stills that a training reads."""
    portraits = [folder / name for name in PORTRAIT_FILES] if settings.portraits else []
    return portraits + ([teacher] if settings.teacher and teacher is not None else [])


def still_crops(images: Image, crop: CropSpec) -> Tensor:
    """(N, size, size, C) uint8 through the crop code of serving; images (N, H, W) uint8 grey."""
    if images.shape[1:] == (crop.size, crop.size) and crop.colour == "grey":
        return torch.from_numpy(images[..., None])
    found = [crop_whole(np.repeat(image[..., None], 3, axis=2), crop) for image in images]
    return torch.from_numpy(np.stack(found))


def one_hot(labels: np.ndarray) -> Tensor:
    """(N,) labels, -1 unknown -> (N, K) float32, zero rows where unknown."""
    known = torch.from_numpy((labels >= 0).astype(np.float32))[:, None]
    return F.one_hot(torch.from_numpy(labels).clamp(min=0), len(LABELS)).float() * known


def _padded(target: Tensor, count: int) -> Tensor:
    return torch.cat([target, torch.zeros(count - len(target), target.shape[1])])


def _answers(
    images: Image, portraits: list[Image], teacher: Teacher, run_dir: Path, crop: CropSpec, journal: Journal
) -> Tensor:
    """(N, K) the teacher's answers on stills and portraits; kept, since they take minutes."""
    kept = run_dir / ANSWERS_FILE
    count = len(images) + sum(map(len, portraits))
    if kept.exists():
        with np.load(kept, allow_pickle=False) as file:
            if str(file["teacher"]) == PACKAGE_SHA256 and len(file["answers"]) == count:
                return torch.from_numpy(file["answers"])
    looked_at = crops_for(crop)
    found = []
    with journal.bar("answers of the teacher", count) as bar:
        for seen in [images, *portraits]:
            for start in range(0, len(seen), 1024):
                part = seen[start : start + 1024]
                crops = still_crops(part, looked_at).numpy() if part.ndim == 3 else part
                found.append(teacher.answers(crops))
                bar.advance(len(part))
    answers = torch.cat(found)
    run_dir.mkdir(parents=True, exist_ok=True)
    np.savez(kept, answers=answers.numpy(), teacher=PACKAGE_SHA256)
    return answers
