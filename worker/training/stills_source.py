"""Training from stills: the static CNN on the stills, the temporal members on clips made from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.crops import CropSpec, Image, crop_whole
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
from worker.training.static import MAIN, PixelBatch, StaticNet, static_loss, static_probabilities
from worker.training.stills import LABELS, Stills, read_stills
from worker.training.temporal import WindowSet
from worker.training.windows import centred_windows, laid_end_to_end

VOTES, OLDER = "votes", "fer2013"
AUGMENTATION_SEED, CLIP_SEED, SPLIT_SEED, STILLS_SEED = 101, 102, 103, 104
HELD_OUT = 0.1
VALIDATION_CLIPS = 1000


class StillsSource:
    """Labelled stills for training and for validation."""

    labels: tuple[str, ...] = LABELS
    auxiliary: tuple[str, ...] = (VOTES, OLDER)
    clips_from_stills = True

    def __init__(self, data: Path, validation: Path | None, settings: Settings, crop: CropSpec) -> None:
        train_file, validation_file = _files(data, validation)
        self.files = [train_file] if validation_file is None else [train_file, validation_file]
        self.settings = settings
        train = read_stills(train_file)
        if validation_file is None:
            train, held = _split(train, settings.seed)
        else:
            held = read_stills(validation_file)
        shares = train.vote_shares()
        kept = shares.sum(axis=1) > 0
        self.train = Stills(train.images[kept], train.votes[kept], train.fer2013[kept])
        self.shares = torch.from_numpy(shares[kept])
        self.validation = held
        self.crop = crop

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of the files."""
        return {path.name: sha256_of(path) for path in self.files}

    def static_task(self, net: StaticNet, place: Place) -> StillsTask:
        """What the static CNN is trained on."""
        return StillsTask(self, net, place)

    def window_sets(self, net: StaticNet, journal: Journal) -> tuple[WindowSet, dict[str, WindowSet]]:
        """Windows for training, and for validation by name: `stills` that do not move, and `clips`."""
        targets = mixed_target(self.shares, self.train, self.settings.stills.clips_fer2013_share).numpy()
        truth = targets.argmax(axis=1)
        count = round(len(self.train) * self.settings.clips.still_windows)
        train = joined(
            self._clips(net, self.train, targets, truth, np.arange(0, len(self.train), 2), 0, journal),
            self._stills(net, self.train, targets, truth, np.arange(count) % len(self.train), journal),
        )
        held_truth = self.validation.ferplus
        held_targets = F.one_hot(torch.from_numpy(held_truth).clamp(min=0), len(LABELS)).float().numpy()
        labelled = np.flatnonzero(held_truth >= 0)
        firsts = labelled[np.linspace(0, len(labelled) - 1, min(VALIDATION_CLIPS, len(labelled))).astype(int)]
        validation = {
            "stills": self._stills(net, self.validation, held_targets, held_truth, labelled, journal),
            "clips": self._clips(net, self.validation, held_targets, held_truth, firsts, 1, journal),
        }
        return train, validation

    def crops(self, images: Image) -> Tensor:
        """(N, size, size, C) uint8 through the crop code of serving; images (N, H, W) uint8 grey."""
        if images.shape[1:] == (self.crop.size, self.crop.size) and self.crop.colour == "grey":
            return torch.from_numpy(images[..., None])
        found = [crop_whole(np.repeat(image[..., None], 3, axis=2), self.crop) for image in images]
        return torch.from_numpy(np.stack(found))

    def _clips(
        self,
        net: StaticNet,
        stills: Stills,
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
            images = stills.images[known]
            for plan, rng in zip(plans, rngs, strict=True):
                yield self.crops(render_clip(images, plan, settings, rng))

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
        self, net: StaticNet, stills: Stills, targets: np.ndarray, truth: np.ndarray, rows: np.ndarray, journal: Journal
    ) -> WindowSet:
        def batches() -> Iterator[Tensor]:
            for k in range(0, len(rows), FEATURE_BATCH):
                crops = self.crops(stills.images[rows[k : k + FEATURE_BATCH]])
                # The backbone knows its training stills too well: heads would learn to trust it more than they should.
                rng = generator(self.settings.seed, STILLS_SEED, k)
                yield augment(crops, self.settings.augmentation, rng) if stills is self.train else crops

        features = self._features(net, batches(), len(rows), "features of stills", journal)
        windows = torch.arange(len(rows)).unsqueeze(1).expand(-1, self.settings.window)
        return WindowSet(features, windows, torch.from_numpy(targets[rows]), torch.from_numpy(truth[rows]))

    def _features(self, net: StaticNet, batches: Iterator[Tensor], count: int, what: str, journal: Journal) -> Tensor:
        with journal.bar(what, count) as bar:
            return compute_features(
                net.backbone, net.normalise, batches, count, half_precision=self.settings.half_precision, bar=bar
            )


class StillsTask:
    """Task of the static CNN."""

    def __init__(self, source: StillsSource, net: StaticNet, place: Place) -> None:
        self.model: nn.Module = net.to(place.device)
        self.source, self.place, self.settings = source, place, source.settings
        self.pixels = source.crops(source.train.images)
        self.size = len(self.pixels)
        older = older_target(source.train)
        main = mixed_target(source.shares, source.train, self.settings.stills.fer2013_share)
        self.targets = {MAIN: main}
        if self.settings.stills.auxiliary:
            self.targets |= {VOTES: source.shares, OLDER: older}
        self.draw_weights: Tensor | None = rebalanced(source.shares, self.settings.static.rebalance)

    def batches(self, order: list[Tensor], epoch: int, first_step: int) -> Iterator[PixelBatch]:
        for step, items in enumerate(order[first_step:], start=first_step):
            rng = generator(self.settings.seed, AUGMENTATION_SEED, epoch, step, self.place.rank)
            pixels = augment(self.pixels[items], self.settings.augmentation, rng)
            targets = {name: target[items] for name, target in self.targets.items()}
            if self.settings.static.mixup:
                pixels, targets = _mixed_pairs(pixels, targets, self.settings.static.mixup, rng)
            device = self.place.device
            yield PixelBatch(pixels.to(device), {name: target.to(device) for name, target in targets.items()})

    def loss(self, model: nn.Module, batch: PixelBatch) -> Tensor:
        return static_loss(model, batch, self.settings.stills.auxiliary)

    def validate(self, model: nn.Module) -> dict[str, float]:
        if not isinstance(model, StaticNet):
            raise TypeError(f"expected a StaticNet, got {type(model).__name__}")
        held = self.source.validation
        batches = torch.split(self.source.crops(held.images), FEATURE_BATCH)
        probabilities = static_probabilities(model, batches, half_precision=self.settings.half_precision).numpy()
        rows, older = held.ferplus >= 0, held.fer2013 >= 0
        found = measure(probabilities[rows], held.ferplus[rows], LABELS)
        metrics = {key: found[key] for key in ("accuracy", "macro_f1", METRIC)}
        if older.any():
            metrics["fer2013_accuracy"] = float((probabilities[older].argmax(axis=1) == held.fer2013[older]).mean())
        return metrics


def older_target(stills: Stills) -> Tensor:
    """(N, 7) one-hot FER2013 labels, zero rows where unknown."""
    known = torch.from_numpy((stills.fer2013 >= 0).astype(np.float32))[:, None]
    return F.one_hot(torch.from_numpy(stills.fer2013).clamp(min=0), len(LABELS)).float() * known


def mixed_target(shares: Tensor, stills: Stills, older_share: float) -> Tensor:
    """(N, 7) vote shares mixed with the older label where there is one."""
    older = older_target(stills)
    known = older.sum(dim=1, keepdim=True)
    return shares * (1 - older_share * known) + older_share * older


def joined(first: WindowSet, second: WindowSet) -> WindowSet:
    """Both sets as one; each must have one view."""
    return WindowSet(
        torch.cat([first.features, second.features]),
        torch.cat([first.windows, second.windows + len(first.targets)]),
        torch.cat([first.targets, second.targets]),
        torch.cat([first.truth, second.truth]),
    )


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
