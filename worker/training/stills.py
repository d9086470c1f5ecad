"""The `stills` layout: an `.npz` of labelled face crops.

    images (N, 48, 48) uint8 grey; votes (N, 10) uint8, FER+ taggers' votes in FER+ order; fer2013_label (N,) int8, the
    older single label in this project's order, -1 unknown

Source of the votes and of the rule that single votes are outliers: Barsoum et al. 2016, Training Deep Networks for
Facial Expression Recognition with Crowd-Sourced Label Distribution (arXiv 1608.01041).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from worker.crops import Image
from worker.training.errors import DataError

LABELS = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")
# Columns of the votes: neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, not a face.
VOTES_OF_LABELS = (0, 4, 5, 6, 1, 3, 2)
OTHER_VOTES = (7, 8, 9)

Shares = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Stills:
    """images: (N, H, W) uint8 grey.  votes: (N, 10) int64.  fer2013: (N,) int64, -1 unknown."""

    images: Image
    votes: Indices
    fer2013: Indices

    def __len__(self) -> int:
        return len(self.images)

    @property
    def label_votes(self) -> Indices:
        """(N, 7) votes for the seven labels, in their order."""
        return self.votes[:, VOTES_OF_LABELS]

    @property
    def ferplus(self) -> Indices:
        """(N,) the label with strictly more votes than each of the nine other answers, -1 where there is none."""
        ranked = np.sort(self.votes, axis=1)
        best = self.label_votes.max(axis=1)
        decided = (best == ranked[:, -1]) & (ranked[:, -1] > ranked[:, -2])
        return np.where(decided, self.label_votes.argmax(axis=1), -1)

    def vote_shares(self) -> Shares:
        """(N, 7) shares of the seven labels among the votes for them, without single votes; zeros if none remains.

        Rows where half of the taggers or more saw none of the seven are zeros too.
        """
        kept = np.where(self.label_votes > 1, self.label_votes, 0).astype(np.float32)
        kept[self.votes[:, OTHER_VOTES].sum(axis=1) * 2 >= self.votes.sum(axis=1)] = 0
        return np.asarray(kept / np.maximum(kept.sum(axis=1, keepdims=True), 1), np.float32)


def read_stills(path: Path) -> Stills:
    """Read and check a stills file.

    Raises: DataError if the file or an array is missing or has another shape, type or range.
    """
    arrays = _read(path, ("images", "votes", "fer2013_label"))
    images = _checked_images(path, arrays["images"])
    votes, fer2013 = arrays["votes"], arrays["fer2013_label"]
    if votes.shape != (len(images), 10) or votes.dtype.kind not in "iu":
        raise DataError(f"{path}: votes must be whole numbers of shape ({len(images)}, 10), got {votes.shape}")
    if fer2013.shape != (len(images),) or fer2013.dtype.kind not in "iu":
        raise DataError(f"{path}: fer2013_label must be whole numbers of shape ({len(images)},), got {fer2013.shape}")
    if fer2013.min() < -1 or fer2013.max() >= len(LABELS):
        raise DataError(f"{path}: fer2013_label must lie in -1..{len(LABELS) - 1}")
    return Stills(images, votes.astype(np.int64), fer2013.astype(np.int64))


def read_images(path: Path) -> Image:
    """Only the images of a stills file, (N, H, W) uint8.  Raises: DataError as `read_stills`."""
    return _checked_images(path, _read(path, ("images",))["images"])


def _read(path: Path, names: tuple[str, ...]) -> Mapping[str, npt.NDArray[np.integer]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in file]
            if missing:
                raise DataError(f"{path} lacks the array {missing[0]!r}; the stills layout needs {', '.join(names)}")
            return {name: file[name] for name in names}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a readable .npz file: {error}") from None


def _checked_images(path: Path, images: npt.NDArray[np.integer]) -> Image:
    if images.ndim != 3 or images.dtype != np.uint8 or not len(images):
        raise DataError(f"{path}: images must be uint8 of shape (N, height, width), got {images.dtype} {images.shape}")
    return np.asarray(images, np.uint8)
