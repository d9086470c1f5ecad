"""Training from videos whose frames are labelled: Aff-Wild2 and CSV manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.crops import CropSpec
from worker.training.affwild2 import read_affwild2
from worker.training.augment import augment
from worker.training.errors import DataError
from worker.training.features import FEATURE_BATCH, compute_features
from worker.training.frames import FrameDataset, draws, load_frames
from worker.training.journal import Journal
from worker.training.loop import METRIC, rebalanced
from worker.training.manifest_csv import label_names, read_rows, split_of, train_and_validation
from worker.training.metrics import measure
from worker.training.place import Place, generator
from worker.training.recipes import Settings
from worker.training.static import LABEL, PixelBatch, Served, StaticNet, static_loss, static_probabilities
from worker.training.temporal import WindowSet
from worker.training.video_index import UNLABELLED, Split, Video, all_frames
from worker.training.windows import centred_windows, laid_end_to_end, strided_windows

AUGMENTATION_SEED, VIEW_SEED = 301, 302


class VideoSource:
    """Labelled videos for training and for validation."""

    annotations: Mapping[str, float] = MappingProxyType({LABEL: 1.0})
    clips_from_stills = False

    def __init__(self, train: Split, validation: Split, settings: Settings, crop: CropSpec) -> None:
        if train.labels != validation.labels:
            raise DataError("training and validation data have different labels")
        for split in (train, validation):
            if not any((video.labels != UNLABELLED).any() for video in split.videos):
                raise DataError(f"the {split.name} split has no labelled frame")
        self.labels = train.labels
        _, found = all_frames([video.labelled() for video in train.videos])
        self.shares = one_hot(found, len(self.labels)).mean(dim=0)
        self.train, self.validation = train, validation
        self.settings, self.crop = settings, crop

    @classmethod
    def from_affwild2(cls, root: Path, settings: Settings, crop: CropSpec) -> VideoSource:
        """Read Aff-Wild2's two annotated splits.  Raises: DataError."""
        return cls(read_affwild2(root, "train"), read_affwild2(root, "validation"), settings, crop)

    @classmethod
    def from_manifest(cls, path: Path, validation: Path | None, settings: Settings, crop: CropSpec) -> VideoSource:
        """Read a CSV, and the validation rows from a second one if it is given.  Raises: DataError."""
        rows = read_rows(path)
        if validation is None:
            train, held = train_and_validation(rows, settings.seed)
        else:
            train, held = rows, read_rows(validation)
        labels = label_names([*train, *held])
        return cls(split_of(train, "train", labels), split_of(held, "validation", labels), settings, crop)

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each split's labels and image names."""
        return {split.name: split.sha256 for split in (self.train, self.validation)}

    def static_task(self, net: StaticNet, place: Place) -> FramesTask:
        """What the static CNN is trained on: every labelled frame."""
        return FramesTask(self, net, place)

    def completed(self, served: Served) -> Served:
        """The trained static CNN, nothing beside it."""
        return served

    def window_sets(self, net: Served, journal: Journal) -> tuple[WindowSet, dict[str, WindowSet]]:
        """Windows for training, and for validation one around every labelled frame."""
        train = [video for video in self._in_context(self.train.videos) if len(video.images)]
        windows = laid_end_to_end(
            [self._training_windows(video) for video in train], [len(video.images) for video in train]
        )
        if not len(windows):
            raise DataError(f"no training video is long enough for a window of {self.settings.window} frames")
        views = range(self.settings.feature_views)
        features = torch.cat([self._features(net, train, view, journal) for view in views])
        held = [video for video in self.validation.videos if len(video.images)]
        lengths = [len(video.images) for video in held]
        centred = laid_end_to_end([centred_windows(length, self.settings.window) for length in lengths], lengths)
        found = self._window_set(self._features(net, held, 0, journal), centred, held)
        return self._window_set(features, windows, train), {"validation": found.scored()}

    def _in_context(self, videos: Sequence[Video]) -> list[Video]:
        return [video.labelled() for video in videos] if self.settings.context == "labelled" else list(videos)

    def _training_windows(self, video: Video) -> np.ndarray:
        """A window never leaves its video, and every output that is trained has its own frame's label."""
        window, stride = self.settings.window, self.settings.train_stride
        if self.settings.temporal_outputs == "all":
            return strided_windows(len(video.images), window, stride)
        centred = centred_windows(len(video.images), window)
        return centred[np.flatnonzero(video.labels != UNLABELLED)[::stride]]

    def _window_set(self, features: Tensor, windows: np.ndarray, videos: Sequence[Video]) -> WindowSet:
        _, labels = all_frames(videos)
        return WindowSet(
            features, torch.from_numpy(windows), one_hot(labels, len(self.labels)), torch.from_numpy(labels)
        )

    def _features(self, net: Served, videos: Sequence[Video], view: int, journal: Journal) -> Tensor:
        images, _ = all_frames(videos)
        dataset = FrameDataset(images, self.crop, self.settings.crop_scale, self.settings.seed)
        epoch = view if view else None  # the first view is not augmented
        chosen = draws(range(len(images)), epoch)
        parts = [chosen[k : k + FEATURE_BATCH] for k in range(0, len(chosen), FEATURE_BATCH)]

        def batches() -> Iterator[Tensor]:
            for step, pixels in enumerate(load_frames(dataset, parts, self.settings.loaders)):
                rng = generator(self.settings.seed, VIEW_SEED, view, step)
                yield augment(pixels, self.settings.augmentation, rng) if view else pixels

        half = self.settings.half_precision
        with journal.bar("features of frames", len(images)) as bar:
            return compute_features(net.backbone, net.normalise, batches(), len(images), half_precision=half, bar=bar)


class FramesTask:
    """Task of the static CNN on labelled frames."""

    def __init__(self, source: VideoSource, net: StaticNet, place: Place) -> None:
        self.model: nn.Module = net.to(place.device)
        self.settings, self.place, self.labels = source.settings, place, source.labels
        images, labels = all_frames([video.labelled() for video in source.train.videos])
        self.dataset = FrameDataset(images, source.crop, self.settings.crop_scale, self.settings.seed)
        self.targets = one_hot(labels, len(self.labels))
        self.size = len(images)
        held, self.truth = all_frames([video.labelled() for video in source.validation.videos])
        self.held = FrameDataset(held, source.crop, 1.0, self.settings.seed)
        power = self.settings.static.rebalance
        self.draw_weights = rebalanced(self.targets, power) if power else None
        self.shares = source.shares if self.settings.balanced else None
        self.drawn: dict[str, Tensor] | None = None
        if self.settings.balanced:
            drawn = self.targets if self.draw_weights is None else self.targets * self.draw_weights[:, None]
            self.drawn = {LABEL: drawn.sum(dim=0) / drawn.sum()}

    def batches(self, order: list[Tensor], epoch: int, first_step: int) -> Iterator[PixelBatch]:
        device, left = self.place.device, order[first_step:]
        parts = [draws(items, epoch) for items in left]
        loaded = load_frames(self.dataset, parts, self.settings.loaders)
        for step, (items, pixels) in enumerate(zip(left, loaded, strict=True), start=first_step):
            rng = generator(self.settings.seed, AUGMENTATION_SEED, epoch, step, self.place.rank)
            changed = augment(pixels, self.settings.augmentation, rng)
            yield PixelBatch(changed.to(device), {LABEL: self.targets[items].to(device)})

    def loss(self, model: nn.Module, batch: PixelBatch) -> Tensor:
        return static_loss(model, batch, self.drawn)

    def validate(self, model: nn.Module) -> dict[str, float]:
        if not isinstance(model, StaticNet):
            raise TypeError(f"expected a StaticNet, got {type(model).__name__}")
        chosen = draws(range(len(self.held)))
        parts = [chosen[k : k + FEATURE_BATCH] for k in range(0, len(chosen), FEATURE_BATCH)]
        batches = load_frames(self.held, parts, self.settings.loaders)
        found = static_probabilities(model, batches, half_precision=self.settings.half_precision, shares=self.shares)
        metrics = measure(found.numpy(), self.truth, self.labels)
        return {key: metrics[key] for key in ("accuracy", "macro_f1", METRIC)}


def one_hot(labels: np.ndarray, count: int) -> Tensor:
    """(N,) labels, -1 unlabelled -> (N, count) float32, zero rows where unlabelled."""
    known = torch.from_numpy((labels != UNLABELLED).astype(np.float32))[:, None]
    return F.one_hot(torch.from_numpy(labels).clamp(min=0), count).float() * known
