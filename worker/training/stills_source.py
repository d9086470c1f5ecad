"""Training from stills: the static CNN on the stills, the temporal members on clips made from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.crops import CropSpec, Image
from worker.training.annotated_faces import (
    AnnotatedFaces,
    annotation_weights,
    gather,
    source_files,
    still_crops,
)
from worker.training.augment import augment
from worker.training.clips import plan_clip, render_clip, targets_of, truth_of
from worker.training.errors import DataError
from worker.training.features import FEATURE_BATCH, compute_features
from worker.training.fingerprint import sha256_of
from worker.training.journal import Journal
from worker.training.loop import METRIC, rebalanced
from worker.training.metrics import measure
from worker.training.place import Place, generator
from worker.training.recipes import Settings
from worker.training.static import PixelBatch, Served, StaticNet, log_shares, static_loss, static_probabilities
from worker.training.stills import LABELS, Stills, read_stills
from worker.training.teacher import Teacher, read_teacher, with_teacher
from worker.training.temporal import WindowSet
from worker.training.windows import centred_windows, laid_end_to_end

AUGMENTATION_SEED, CLIP_SEED, SPLIT_SEED, STILLS_SEED, POOL_SEED, GATE_SEED = 101, 102, 103, 104, 105, 106
GATE_FACES = 2000  # of each kind, enlarged ones and sharp ones
HELD_OUT = 0.1
VALIDATION_CLIPS = 500
COARSE = 48  # pixels, of a clip whose frames are drawn small and enlarged


class StillsSource:
    """Labelled stills for training and for validation.

    teacher: npm package of the network that a recipe may ask.  run_dir: where its answers are kept.
    """

    labels: tuple[str, ...] = LABELS
    clips_from_stills = True

    def __init__(
        self,
        data: Path,
        validation: Path | None,
        settings: Settings,
        crop: CropSpec,
        run_dir: Path,
        journal: Journal,
        teacher: Path | None = None,
    ) -> None:
        train_file, validation_file = _files(data, validation)
        files = [train_file] if validation_file is None else [train_file, validation_file]
        folder = data if data.is_dir() else data.parent
        self.files = files + source_files(folder, teacher, settings.stills)
        self.settings = settings
        self.annotations: Mapping[str, float] = annotation_weights(settings.stills)
        train = read_stills(train_file)
        if validation_file is None:
            train, held = _split(train, settings.seed)
        else:
            held = read_stills(validation_file)
        kept = train.vote_shares().sum(axis=1) > 0
        train = Stills(train.images[kept], train.votes[kept], train.fer2013[kept])
        self.shares = torch.from_numpy(train.vote_shares()).mean(dim=0)
        self.teacher = _teacher(teacher, settings)
        self.faces = gather(train, folder, self.teacher, run_dir, crop, settings.stills, journal)
        self.validation = held
        self.crop = crop

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of the files."""
        return {path.name: sha256_of(path) for path in self.files}

    def static_task(self, net: StaticNet, place: Place) -> StillsTask:
        """What the static CNN is trained on."""
        return StillsTask(self, net, place)

    def completed(self, served: Served) -> Served:
        """The trained static CNN, with the teacher beside it if the recipe requests it."""
        share = self.settings.stills.teacher_beside
        if self.teacher is None or not share:
            return served
        rng, faces = generator(self.settings.seed, GATE_SEED), self.faces
        rows = {flag: torch.nonzero(faces.sharp == flag)[:, 0] for flag in (False, True)}
        enlarged, sharp = (rows[flag][torch.randperm(len(rows[flag]), generator=rng)[:GATE_FACES]] for flag in rows)
        crops = torch.cat([faces.crops[enlarged], faces.crops[sharp]])
        return with_teacher(served, self.teacher, share, crops, torch.arange(len(crops)) >= len(enlarged))

    def window_sets(self, net: Served, journal: Journal) -> tuple[WindowSet, dict[str, WindowSet]]:
        """Windows for training, and for validation by name: `stills` that do not move, and `clips`."""
        faces = self._pool()
        targets = self._temporal_targets(net, faces, journal)
        truth = targets.argmax(axis=1)
        images = faces.crops.numpy()
        count = round(len(faces) * self.settings.clips.still_windows)
        train = joined(
            self._clips(net, images, targets, truth, np.arange(0, len(faces), 2), 0, journal),
            self._stills(net, images, targets, truth, np.arange(count) % len(faces), journal, changed=True),
        )
        held_truth = self.validation.ferplus
        held_images = still_crops(self.validation.images, self.crop).numpy()
        held_targets = F.one_hot(torch.from_numpy(held_truth).clamp(min=0), len(LABELS)).float().numpy()
        labelled = np.flatnonzero(held_truth >= 0)
        firsts = labelled[np.linspace(0, len(labelled) - 1, min(VALIDATION_CLIPS, len(labelled))).astype(int)]
        validation = {
            "stills": self._stills(net, held_images, held_targets, held_truth, labelled, journal, changed=False),
            "clips": self._clips(net, held_images, held_targets, held_truth, firsts, 1, journal),
        }
        return train, validation

    def _pool(self) -> AnnotatedFaces:
        """The faces that clips are made from: `clips.pool` of them, drawn without repetition, rare labels first."""
        size = self.settings.clips.pool
        if not 0 < size < len(self.faces):
            return self.faces
        weights = rebalanced(self.faces.together(), self.settings.static.rebalance)
        sharp, share = self.faces.sharp, self.settings.clips.sharp
        if share and sharp.any():
            weights[sharp] *= share / (1 - share) * weights[~sharp].sum() / weights[sharp].sum()
        return self.faces.chosen(torch.multinomial(weights, size, generator=generator(self.settings.seed, POOL_SEED)))

    def _temporal_targets(self, net: Served, faces: AnnotatedFaces, journal: Journal) -> np.ndarray:
        """(N, K) what the annotators said, mixed with what the static CNN sees in the undamaged face."""
        together, share = faces.together(), self.settings.clips.distilled
        if not share:
            return together.numpy()
        features = self._features(net, iter(torch.split(faces.crops, FEATURE_BATCH)), len(faces), "faces", journal)
        with torch.inference_mode():
            logits = net.head(features.to(net.device).float()).cpu()
        shift = log_shares(together.mean(dim=0)) if self.settings.balanced else torch.zeros(len(LABELS))
        return ((1 - share) * together + share * torch.softmax(logits + shift, dim=-1)).numpy()

    def _clips(
        self,
        net: Served,
        images: Image,
        targets: np.ndarray,
        truth: np.ndarray,
        firsts: np.ndarray,
        part: int,
        journal: Journal,
    ) -> WindowSet:
        settings = self.settings.clips
        known = np.flatnonzero(truth >= 0)
        inside = {int(row): place for place, row in enumerate(known)}
        labels = truth[known]
        rngs = [np.random.default_rng((self.settings.seed, CLIP_SEED, part, k)) for k in range(len(firsts))]
        plans = [plan_clip(inside[int(row)], labels, settings, rng) for row, rng in zip(firsts, rngs, strict=True)]

        def frames() -> Iterator[Tensor]:
            for plan, rng in zip(plans, rngs, strict=True):
                stills = _grey(images[known[plan.stills]])
                side = stills.shape[1]
                if side > COARSE and rng.random() < settings.coarse:
                    stills = np.stack(
                        [cv2.resize(still, (COARSE, COARSE), interpolation=cv2.INTER_AREA) for still in stills]
                    )
                shown = dataclasses.replace(plan, stills=np.array([0, 1]))
                yield still_crops(render_clip(stills, shown, settings, rng), self.crop)

        features = self._features(net, _gathered(frames()), len(plans) * settings.frames, "features of clips", journal)
        window = centred_windows(settings.frames, self.settings.window)
        windows = laid_end_to_end([window] * len(plans), [settings.frames] * len(plans))
        return WindowSet(
            features,
            torch.from_numpy(windows),
            torch.from_numpy(np.concatenate([targets_of(plan, targets[known]) for plan in plans])),
            torch.from_numpy(np.concatenate([truth_of(plan, labels) for plan in plans])),
        )

    def _stills(
        self,
        net: Served,
        images: Image,
        targets: np.ndarray,
        truth: np.ndarray,
        rows: np.ndarray,
        journal: Journal,
        *,
        changed: bool,
    ) -> WindowSet:
        def batches() -> Iterator[Tensor]:
            for k in range(0, len(rows), FEATURE_BATCH):
                crops = torch.from_numpy(images[rows[k : k + FEATURE_BATCH]])
                # The backbone knows its training stills too well: heads would learn to trust it more than they should.
                rng = generator(self.settings.seed, STILLS_SEED, k)
                yield augment(crops, self.settings.augmentation, rng) if changed else crops

        features = self._features(net, batches(), len(rows), "features of stills", journal)
        windows = torch.arange(len(rows)).unsqueeze(1).expand(-1, self.settings.window)
        return WindowSet(features, windows, torch.from_numpy(targets[rows]), torch.from_numpy(truth[rows]))

    def _features(self, net: Served, batches: Iterator[Tensor], count: int, what: str, journal: Journal) -> Tensor:
        with journal.bar(what, count) as bar:
            return compute_features(
                net.backbone, net.normalise, batches, count, half_precision=self.settings.half_precision, bar=bar
            )


class StillsTask:
    """Task of the static CNN."""

    def __init__(self, source: StillsSource, net: StaticNet, place: Place) -> None:
        self.model: nn.Module = net.to(place.device)
        self.source, self.place, self.settings = source, place, source.settings
        self.faces = source.faces
        self.size = len(self.faces)
        power = self.settings.static.rebalance
        self.draw_weights = rebalanced(self.faces.together(), power) if power else None
        self.drawn: dict[str, Tensor] | None = None
        if self.settings.balanced:
            self.drawn = {name: self.faces.shares(name, self.draw_weights) for name in self.faces.targets}

    def batches(self, order: list[Tensor], epoch: int, first_step: int) -> Iterator[PixelBatch]:
        for step, items in enumerate(order[first_step:], start=first_step):
            rng = generator(self.settings.seed, AUGMENTATION_SEED, epoch, step, self.place.rank)
            pixels = augment(self.faces.crops[items], self.settings.augmentation, rng)
            targets = {name: target[items] for name, target in self.faces.targets.items()}
            if self.settings.static.mixup:
                pixels, targets = _mixed_pairs(pixels, targets, self.settings.static.mixup, rng)
            device = self.place.device
            yield PixelBatch(pixels.to(device), {name: target.to(device) for name, target in targets.items()})

    def loss(self, model: nn.Module, batch: PixelBatch) -> Tensor:
        return static_loss(model, batch, self.drawn)

    def validate(self, model: nn.Module) -> dict[str, float]:
        if not isinstance(model, StaticNet):
            raise TypeError(f"expected a StaticNet, got {type(model).__name__}")
        held = self.source.validation
        batches = torch.split(still_crops(held.images, self.source.crop), FEATURE_BATCH)
        shares = self.source.shares if self.settings.balanced else None
        half = self.settings.half_precision
        probabilities = static_probabilities(model, batches, half_precision=half, shares=shares).numpy()
        rows, older = held.ferplus >= 0, held.fer2013 >= 0
        found = measure(probabilities[rows], held.ferplus[rows], LABELS)
        metrics = {key: found[key] for key in ("accuracy", "macro_f1", METRIC)}
        if older.any():
            metrics["fer2013_accuracy"] = float((probabilities[older].argmax(axis=1) == held.fer2013[older]).mean())
        return metrics


def joined(first: WindowSet, second: WindowSet) -> WindowSet:
    """Both sets as one; each must have one view."""
    return WindowSet(
        torch.cat([first.features, second.features]),
        torch.cat([first.windows, second.windows + len(first.targets)]),
        torch.cat([first.targets, second.targets]),
        torch.cat([first.truth, second.truth]),
    )


def _grey(crops: Image) -> Image:
    """(N, S, S, C) -> (N, S, S): stills are grey, and the channels of their crops are equal."""
    return crops[..., 0]


def _mixed_pairs(
    pixels: Tensor, targets: dict[str, Tensor], spread: float, rng: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mixup (arXiv 1710.09412): each item with a random other, the larger share its own."""
    share = float(torch._sample_dirichlet(torch.tensor([spread, spread]), generator=rng)[0])
    share = max(share, 1 - share)
    other = torch.randperm(len(pixels), generator=rng)

    def mix(values: Tensor) -> Tensor:
        return share * values + (1 - share) * values[other]

    return mix(pixels), {name: mix(target) for name, target in targets.items()}


def _gathered(batches: Iterator[Tensor]) -> Iterator[Tensor]:
    held: list[Tensor] = []
    for batch in batches:
        held.append(batch)
        if sum(len(part) for part in held) >= FEATURE_BATCH:
            yield torch.cat(held)
            held = []
    if held:
        yield torch.cat(held)


def _teacher(package: Path | None, settings: Settings) -> Teacher | None:
    if not (settings.stills.teacher or settings.stills.teacher_beside):
        return None
    if package is None:
        raise DataError(
            "the recipe has a teacher: name its package with --teacher, or set stills.teacher=0 and "
            "stills.teacher_beside=0"
        )
    return read_teacher(package, settings.input)


def _files(data: Path, validation: Path | None) -> tuple[Path, Path | None]:
    """The training and validation file; a folder must hold one `*train*.npz` and may hold one `*valid*.npz`."""
    if not data.is_dir():
        return data, validation
    train, valid = sorted(data.glob("*train*.npz")), sorted(data.glob("*valid*.npz"))
    if len(train) != 1 or (len(valid) != 1 and validation is None):
        raise DataError(f"{data} must hold one *train*.npz and one *valid*.npz, or name the files themselves")
    return train[0], validation or valid[0]


def _split(stills: Stills, seed: int) -> tuple[Stills, Stills]:
    order = np.random.default_rng((seed, SPLIT_SEED)).permutation(len(stills))
    held = order[: max(round(len(order) * HELD_OUT), 1)]
    kept = np.setdiff1d(order, held)
    first, second = (Stills(stills.images[r], stills.votes[r], stills.fer2013[r]) for r in (kept, np.sort(held)))
    return first, second
