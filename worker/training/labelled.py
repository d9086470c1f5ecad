"""Labelled data of the three layouts for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worker.crops import CropSpec, crop_whole
from worker.training.affwild2 import read_affwild2
from worker.training.errors import DataError
from worker.training.evaluate import LabelledClips
from worker.training.features import FEATURE_BATCH
from worker.training.frames import FrameDataset, draws, load_frames
from worker.training.manifest_csv import label_names, read_rows, split_of
from worker.training.stills import LABELS, read_stills
from worker.training.video_index import Split, all_frames
from worker.training.windows import centred_windows, laid_end_to_end

LOADERS = 2


def labelled_clips(layout: str, path: Path, crop: CropSpec, labels: tuple[str, ...], window: int) -> LabelledClips:
    """The labelled data at `path`, in the bundle's labels.  Raises: DataError."""
    if layout == "stills":
        return labelled_stills(_stills_file(path), crop, labels, window)
    if layout == "affwild2":
        return labelled_videos(str(path), read_affwild2(path, "validation"), crop, labels, window)
    if layout == "manifest":
        rows = read_rows(path)
        held = [row for row in rows if row.split == "validation"] or rows
        return labelled_videos(str(path), split_of(held, "validation", label_names(held)), crop, labels, window)
    raise DataError(f"no layout {layout!r}: stills, affwild2, manifest or clips")


def labelled_stills(path: Path, crop: CropSpec, labels: tuple[str, ...], window: int) -> LabelledClips:
    """A stills file: each still fills a whole window.  Truths `ferplus` and `fer2013`.

    Raises: DataError if the file is unusable or the labels are not those of the layout.
    """
    order = _bundle_index(LABELS, labels)
    stills = read_stills(path)

    def crops() -> Iterator[Tensor]:
        for start in range(0, len(stills), FEATURE_BATCH):
            images = stills.images[start : start + FEATURE_BATCH]
            colour = (np.repeat(image[..., None], 3, axis=2) for image in images)
            yield torch.from_numpy(np.stack([crop_whole(image, crop) for image in colour]))

    windows = torch.arange(len(stills)).unsqueeze(1).expand(-1, window)
    truths = {"ferplus": order[stills.ferplus], "fer2013": order[stills.fer2013]}
    return LabelledClips(str(path), crops, len(stills), windows, truths)


def labelled_videos(name: str, split: Split, crop: CropSpec, labels: tuple[str, ...], window: int) -> LabelledClips:
    """Videos: a window around every labelled frame; unlabelled frames give context and are not scored."""
    videos = [video for video in split.videos if len(video.images)]
    images, found = all_frames(videos)
    lengths = [len(video.images) for video in videos]
    windows = laid_end_to_end([centred_windows(length, window) for length in lengths], lengths)
    dataset = FrameDataset(images, crop, crop_scale=1.0, seed=0)

    def crops() -> Iterator[Tensor]:
        chosen = draws(range(len(images)))
        parts = [chosen[k : k + FEATURE_BATCH] for k in range(0, len(chosen), FEATURE_BATCH)]
        yield from load_frames(dataset, parts, LOADERS)

    truths = {"annotations": _bundle_index(split.labels, labels)[found]}
    return LabelledClips(name, crops, len(images), torch.from_numpy(windows), truths)


def _stills_file(path: Path) -> Path:
    """A stills file, or the one `*valid*.npz` of a folder."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("*valid*.npz"))
    if len(found) != 1:
        raise DataError(f"{path} must hold one *valid*.npz, or name the file itself")
    return found[0]


def _bundle_index(names: tuple[str, ...], labels: tuple[str, ...]) -> np.ndarray:
    """(len(names) + 1,) the bundle's index of each name; the last entry, index -1, is unlabelled."""
    missing = [name for name in names if name not in labels]
    if missing:
        raise DataError(f"the data has the label {missing[0]!r}, which the bundle lacks")
    return np.array([labels.index(name) for name in names] + [-1], np.int64)
