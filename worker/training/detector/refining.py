"""The second stage of a detector's training: the network that makes landmarks exact.

Every face is drawn once, upright, on a small canvas; the views that the network learns from are cut from it, turned,
moved and scaled as much as the landmarks of a detector are off, and worsened as video is.  The landmarks are the
median of several of the teacher's answers, as single ones differ by about as much as the network's should; without a
teacher they are those of the data.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from worker.core.affine import MIRRORED, aligning, moved, warped
from worker.core.records import Floats, Image
from worker.faces import Detector
from worker.faces.levelled import VIEWS, Levelled
from worker.faces.refinement import MIDDLE_GREY, USUAL, VIEW_PX, RefinementNet
from worker.training.detector.material import Material
from worker.training.detector.settings import DetectorSettings, ViewSettings
from worker.training.detector.task import alone
from worker.training.journal import Journal
from worker.training.loop import METRIC, Run
from worker.training.place import Place, generator

CANVAS_PX = 96
CANVAS_SHOWS = 1.7  # sides of a view
ONE_VIEW_IN = 3  # so many of the teacher's views are asked for about a face, and others about the next face
VIEW_SEED, VALIDATION_SEED = 78, 79
LANDMARKS_FILE = "landmarks.npz"
EYES = float(USUAL[1, 0] - USUAL[0, 0])  # eye distance in sides of a view
SMOOTH = 0.03  # errors below this share of the eye distance count squared
LIGHT_GREY, CONTRAST_GREY, SLOPE_GREY = 25.0, 0.3, 15.0  # spreads of brightness, log contrast, and light from a side


@dataclass(frozen=True)
class UprightFaces:
    """canvases: (N, 96, 96) uint8 grey.  marks: (N, 5, 2) float32, the landmarks in -1..1 over the canvas."""

    canvases: Tensor
    marks: Tensor


@dataclass(frozen=True)
class ViewBatch:
    """views: (B, 1, 48, 48) float32 in 0..255.  marks: (B, 5, 2) float32, landmarks in fractions of the side."""

    views: Tensor
    marks: Tensor


def upright_faces(pictures: list[Image], faces: Floats) -> UprightFaces:
    """Canvases of grey pictures with one face each, rows of 14."""
    canvases = np.zeros((len(pictures), CANVAS_PX, CANVAS_PX), np.uint8)
    marks = np.zeros((len(pictures), 5, 2), np.float32)
    places = ((USUAL - 0.5) / CANVAS_SHOWS + 0.5) * CANVAS_PX
    for i, (picture, face) in enumerate(zip(pictures, faces, strict=True)):
        own = face[4:].reshape(5, 2)
        how = aligning(own, places)
        canvases[i] = warped(picture, how, CANVAS_PX, CANVAS_PX, cv2.BORDER_REPLICATE)
        marks[i] = moved(own, how) / CANVAS_PX * 2 - 1
    return UprightFaces(torch.from_numpy(canvases), torch.from_numpy(marks))


def draw_views(
    canvases: Tensor, marks: Tensor, rng: torch.Generator, how: ViewSettings, *, worsened: bool
) -> ViewBatch:
    """One view of each canvas, (B, 96, 96) uint8; marks: (B, 5, 2) in -1..1."""
    count = len(canvases)
    normal, uniform = partial(torch.randn, generator=rng), partial(torch.rand, generator=rng)

    turn = normal(count) * float(np.deg2rad(how.turn))
    zoom = (normal(count) * how.zoom).exp()
    off = normal(count, 2) * how.shift
    flip = torch.where(uniform(count) < 0.5, -1.0, 1.0)
    narrow = torch.where(uniform(count) < how.narrowed, 1 - 0.35 * uniform(count), torch.ones(count))
    cos, sin = turn.cos(), turn.sin()
    turned = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)  # (B, 2, 2)
    stretched = torch.diag_embed(torch.stack([flip / narrow, torch.ones(count)], 1))
    linear = stretched @ turned / (CANVAS_SHOWS * zoom)[:, None, None]  # from the view to the canvas
    shift = off * 2 / CANVAS_SHOWS
    grid = F.affine_grid(torch.cat([linear, shift[:, :, None]], 2), [count, 1, VIEW_PX, VIEW_PX], align_corners=False)
    views = F.grid_sample(canvases[:, None].float(), grid, align_corners=False, padding_mode="border")
    placed = torch.linalg.solve(linear, (marks - shift[:, None]).transpose(1, 2)).transpose(1, 2)
    placed = torch.where((flip < 0)[:, None, None], placed[:, list(MIRRORED)], placed)
    if worsened:
        views = _worsened(views, rng, how)
    return ViewBatch(views.round().clamp(0, 255), (placed + 1) / 2)


def _worsened(views: Tensor, rng: torch.Generator, how: ViewSettings) -> Tensor:
    """(B, 1, 48, 48) views in less light, from a side, coarser, noisy, partly covered."""
    count = len(views)
    normal, uniform = partial(torch.randn, generator=rng), partial(torch.rand, generator=rng)

    coarse = views.clone()
    for part in torch.arange(count).tensor_split(4)[: round(4 * how.coarse)]:  # a size for each quarter: one call each
        side = int(torch.randint(how.coarsest_px, VIEW_PX, (1,), generator=rng))
        small = F.interpolate(views[part], size=(side, side), mode="area")
        coarse[part] = F.interpolate(small, size=(VIEW_PX, VIEW_PX), mode="bilinear")
    lit = (coarse - MIDDLE_GREY) * (normal(count, 1, 1, 1) * CONTRAST_GREY).exp() + MIDDLE_GREY
    across = torch.linspace(-1, 1, VIEW_PX).view(1, 1, 1, -1)
    lit = lit + normal(count, 1, 1, 1) * LIGHT_GREY
    lit = lit + normal(count, 1, 1, 1) * SLOPE_GREY * across + normal(count, 1, 1, 1) * SLOPE_GREY * across.mT
    lit = lit + normal(*lit.shape) * uniform(count, 1, 1, 1) ** 3 * how.noise
    for i in torch.nonzero(uniform(count) < how.covered).flatten().tolist():
        height, width = (6 + 16 * uniform(2)).int().tolist()
        top, left = (uniform(2) * (VIEW_PX - torch.tensor([height, width]))).int().tolist()
        lit[i, :, top : top + height, left : left + width] = uniform(1) * 255
    return lit


class RefinementTask:
    """See `worker.training.loop.Task`."""

    draw_weights: Tensor | None = None

    def __init__(
        self, settings: DetectorSettings, train: UprightFaces, held_out: UprightFaces, net: RefinementNet, place: Place
    ) -> None:
        self.settings, self.train, self.place = settings, train, place
        self.model: nn.Module = net.to(place.device)
        self.size = len(train.canvases)
        drawn = generator(settings.seed, VALIDATION_SEED)
        self.held_out = draw_views(held_out.canvases, held_out.marks, drawn, settings.views, worsened=False)

    def batches(self, order: list[Tensor], epoch: int, first_step: int) -> Iterator[ViewBatch]:
        """The batches of an epoch from step `first_step` on."""
        for step in range(first_step, len(order)):
            rng = generator(self.settings.seed, VIEW_SEED, epoch, step, self.place.rank)
            faces = order[step]
            batch = draw_views(
                self.train.canvases[faces], self.train.marks[faces], rng, self.settings.views, worsened=True
            )
            yield ViewBatch(batch.views.to(self.place.device), batch.marks.to(self.place.device))

    def loss(self, model: nn.Module, batch: ViewBatch) -> Tensor:
        """Smooth L1 in eye distances."""
        off = (self._answers(model, batch.views) - batch.marks) / EYES
        return F.smooth_l1_loss(off, torch.zeros_like(off), beta=SMOOTH)

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Mean distance of landmarks in eye distances, before and after, on held-out portraits."""
        answers = self._answers(model, self.held_out.views.to(self.place.device)).cpu()
        usual = torch.from_numpy(USUAL).expand_as(answers)
        error = _error(answers, self.held_out.marks)
        return {METRIC: 1 - error, "landmark_error": error, "unrefined_error": _error(usual, self.held_out.marks)}

    def _answers(self, model: nn.Module, views: Tensor) -> Tensor:
        usual = torch.from_numpy(USUAL).to(self.place.device)
        answers: Tensor = model(views.contiguous(memory_format=torch.channels_last))
        return answers.float().view(-1, 5, 2) + usual


def _error(answers: Tensor, marks: Tensor) -> float:
    eyes = (marks[:, 0] - marks[:, 1]).norm(dim=1)
    return float(((answers - marks).norm(dim=2).mean(dim=1) / eyes).mean())


class _Asked(Dataset[Floats]):
    """Item i is the face i, a row of 14, with the landmarks that the teacher's views agree on."""

    def __init__(self, pictures: list[Image], faces: Floats, teacher: Detector) -> None:
        self.pictures, self.faces = pictures, faces
        self.teachers = [Levelled(teacher, VIEWS[start::ONE_VIEW_IN]) for start in range(ONE_VIEW_IN)]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, item: int) -> Floats:
        face = self.faces[item]
        picture = np.asarray(cv2.cvtColor(self.pictures[item], cv2.COLOR_GRAY2RGB), np.uint8)
        teacher = self.teachers[item % ONE_VIEW_IN]
        agreed = teacher.landmarks(picture, face[:4], face[4:].reshape(5, 2))
        return face if agreed is None else np.concatenate([face[:4], agreed.reshape(-1)]).astype(np.float32)


def ask_again(material: Material, teacher: Detector, run: Run, files: Mapping[str, str], processes: int) -> Material:
    """The material with landmarks that several views of every face agree on; asked once a run, kept in its folder.

    files: hashes of the data and the teacher, by name; answers about others that lie in the folder do not count.
    """
    kept = run.folder / LANDMARKS_FILE
    asked = json.dumps([sorted(files.items()), [asdict(view) for view in VIEWS], ONE_VIEW_IN])
    if run.place.first and not _answers(kept, asked):
        count = len(material.portraits) + len(material.tight)
        run.journal.say(f"asking the teacher again about {count} faces, in several views of each")
        portraits = _Asked(material.portraits, material.faces, teacher)
        tight = _Asked(material.tight, material.tight_faces, teacher)
        beside = kept.with_suffix(".part.npz")
        np.savez(
            beside,
            asked=np.array(asked),
            faces=_asked("landmarks of portraits", portraits, processes, run.journal),
            tight_faces=_asked("landmarks of tight faces", tight, processes, run.journal),
        )
        os.replace(beside, kept)
    run.place.wait()
    with np.load(kept, allow_pickle=False) as file:
        return replace(material, faces=file["faces"], tight_faces=file["tight_faces"])


def _answers(kept: Path, asked: str) -> bool:
    try:
        with np.load(kept, allow_pickle=False) as file:
            return bool(str(file["asked"]) == asked)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return False


def _asked(what: str, faces: _Asked, processes: int, journal: Journal) -> Floats:
    rows: list[Floats] = []
    with journal.bar(what, len(faces)) as bar:
        for row in DataLoader(faces, None, num_workers=processes, collate_fn=_as_it_is, worker_init_fn=alone):
            rows.append(row)
            bar.advance()
    return np.array(rows, np.float32).reshape(-1, faces.faces.shape[1])


def _as_it_is(row: Any) -> Any:
    return row
