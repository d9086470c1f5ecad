"""RetinaFace with MobileNet-0.25 as a torch module; `worker.faces.networks.retinaface` tells its source."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.faces.networks.retinaface import LANDMARKS, STRIDES

MEAN_RGB = (127.0, 117.0, 104.0)
SLOPE = 0.1  # of the leaky ReLU
# (input channels, output channels, stride) of each separable unit, by stage.
UNITS = (
    ((8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)),
    ((64, 128, 2), *((128, 128, 1),) * 5),
    ((128, 256, 2), (256, 256, 1)),
)
WIDTH = 64


class RetinaFaceNet(nn.Module):
    """Pixels (B, 3, H, W) float RGB in 0..255 -> one map (B, 2 * 16, h, w) for each stride, finest first."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(1, 3, 1, 1), persistent=False)
        self.stem = nn.Sequential(*_conv(3, 8, 3, stride=2))
        self.stages = nn.ModuleList(
            nn.Sequential(*(layer for sizes in stage for layer in _separable(*sizes))) for stage in UNITS
        )
        self.lateral = nn.ModuleList(nn.Sequential(*_conv(stage[-1][1], WIDTH, 1)) for stage in UNITS)
        self.merge = nn.ModuleList(nn.Sequential(*_conv(WIDTH, WIDTH, 3)) for _ in STRIDES[:-1])
        self.context = nn.ModuleList(_Context() for _ in STRIDES)
        self.heads = nn.ModuleList(nn.Conv2d(WIDTH, 2 * LANDMARKS.stop, 1) for _ in STRIDES)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(pixels - self.mean)
        features = []
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            x = stage(x)
            features.append(lateral(x))
        features[1] = self.merge[1](features[1] + F.interpolate(features[2], scale_factor=2.0))
        features[0] = self.merge[0](features[0] + F.interpolate(features[1], scale_factor=2.0))
        return tuple(head(context(x)) for head, context, x in zip(self.heads, self.context, features, strict=True))


class _Context(nn.Module):
    """Three parallel receptive fields, 3x3, 5x5 and 7x7, all from 3x3 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.small = nn.Conv2d(WIDTH, WIDTH // 2, 3, 1, 1)
        self.first = nn.Sequential(*_conv(WIDTH, WIDTH // 4, 3))
        self.medium = nn.Conv2d(WIDTH // 4, WIDTH // 4, 3, 1, 1)
        self.large = nn.Sequential(*_conv(WIDTH // 4, WIDTH // 4, 3), nn.Conv2d(WIDTH // 4, WIDTH // 4, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        return F.relu(torch.cat([self.small(x), self.medium(first), self.large(first)], dim=1))


def _separable(before: int, after: int, stride: int) -> list[nn.Module]:
    return [*_conv(before, before, 3, stride=stride, groups=before), *_conv(before, after, 1)]


def _conv(before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups)
    return [conv, nn.LeakyReLU(SLOPE)]
