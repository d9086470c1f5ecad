"""YuNet (2023mar) as a torch module; `worker.faces.networks.yunet` tells its source."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from worker.faces.networks.yunet import STRIDES

WIDTH = 64
HEADS = (1, 1, 4, 10)  # channels of class, objectness, box and landmarks


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


def _unit(before: int, after: int, *, relu: bool = True) -> nn.Sequential:
    """Pointwise, then depthwise convolution."""
    layers = [nn.Conv2d(before, after, 1), nn.Conv2d(after, after, 3, 1, 1, groups=after)]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)
