"""Decoding shared by all networks: cells above a score, and candidates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Cells:
    """Cells of a batch that may hold a face.

    image: (N,) index in the batch.  row, column: (N,) in the map.  values: (N, C) channels of the map.
    """

    image: npt.NDArray[np.int64]
    row: Array
    column: Array
    values: Array


@dataclass(frozen=True)
class Candidates:
    """Faces of a batch before non-maximum suppression, in pixels of the network's input.

    image: (N,) index in the batch.  scores: (N,) in 0..1.  boxes: (N, 4) xyxy.  landmarks: (N, 5, 2) xy, in the
    order of `worker.core.records`.
    """

    image: npt.NDArray[np.int64]
    scores: Array
    boxes: Array
    landmarks: Array

    def above(self, min_score: float) -> Candidates:
        """The candidates with at least this score."""
        kept = self.scores >= min_score
        return self if kept.all() else Candidates(*(part[kept] for part in vars(self).values()))


def cells_above(maps: Array, score: Array, lowest: float) -> Cells:
    """The cells whose score is at least `lowest`.

    maps: (B, C, h, w).  score: (B, h, w), comparable with `lowest`.
    """
    image, row, column = np.nonzero(score >= lowest)
    return Cells(image, row.astype(np.float32), column.astype(np.float32), maps[image, :, row, column])


def together(parts: Iterable[Candidates | None]) -> Candidates:
    """Concatenate the candidates of several maps; None stands for a map without any."""
    given = [vars(part).values() for part in parts if part is not None]
    if not given:
        none = np.empty((0, 5, 2), np.float32)
        return Candidates(np.empty(0, np.int64), none[:, 0, 0], np.empty((0, 4), np.float32), none)
    return Candidates(*(np.concatenate(column) for column in zip(*given, strict=True)))


def logit(probability: float) -> float:
    """The inverse of the logistic function; infinite at 0 and 1."""
    if 0 < probability < 1:
        return math.log(probability / (1 - probability))
    return math.copysign(math.inf, probability - 0.5)


def sigmoid(values: Array) -> Array:
    """Elementwise logistic function."""
    return np.asarray(1 / (1 + np.exp(-values)), np.float32)


def box_around(x: Array, y: Array, width: Array, height: Array) -> Array:
    """(N, 4) xyxy from centres and sizes, (N,) each."""
    return np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
