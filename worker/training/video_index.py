"""Videos as training knows them: images on disk in time's order, with a label a frame."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
UNLABELLED = -1


@dataclass(frozen=True)
class Video:
    """images: face crops in time's order.  labels: (T,) int64, -1 where unlabelled."""

    name: str
    images: tuple[Path, ...]
    labels: Indices

    def labelled(self) -> Video:
        """The labelled frames alone."""
        kept = np.flatnonzero(self.labels != UNLABELLED)
        return Video(self.name, tuple(self.images[k] for k in kept), self.labels[kept])


@dataclass(frozen=True)
class Split:
    """Videos of one split.  labels: names, in the order of the indices."""

    name: str
    labels: tuple[str, ...]
    videos: tuple[Video, ...]

    @property
    def sha256(self) -> str:
        """Digest of every image's name and label; the pixels are not read."""
        digest = hashlib.sha256(repr(self.labels).encode())
        for video in self.videos:
            digest.update(repr((video.name, [image.name for image in video.images])).encode())
            digest.update(video.labels.tobytes())
        return digest.hexdigest()


def all_frames(videos: Sequence[Video]) -> tuple[list[Path], Indices]:
    """Every image and its label, video after video."""
    images = [image for video in videos for image in video.images]
    labels = np.concatenate([video.labels for video in videos]) if videos else np.zeros(0, np.int64)
    return images, labels
