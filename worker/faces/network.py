"""The network of our own face detector: one stage, no anchors, three strides.

A stem of two convolutions brings the image to a quarter of its size; three stages follow at strides 8, 16 and 32.
What the coarser stages know is added to the finer ones, and each stride then predicts, at every cell, whether a face's
centre is there, its box and its five landmarks.  Convolution, batch normalisation and ReLU only, so that
`worker.core.conv_fusion` can merge them for inference.

Source of the idea: Tian et al. 2019, FCOS; Wu, Peng, Yu 2023, YuNet.  The network and its training are our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDES = (8, 16, 32)
LANDMARKS = 5
OUTPUTS = 1 + 4 + 2 * LANDMARKS  # score, box, landmarks
PRIOR = 0.01  # share of cells with a face that an untrained network answers
MAX_LOG_SIZE = 5.0  # a box is at most e^5 strides wide, so that no weights can overflow it

Unit = Literal["dense", "separable"]
Tensors = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class DetectorSizes:
    """What is needed to build the network.

    stem: channels after each of its two convolutions.  widths: channels of the stages at strides 8, 16, 32.  depths:
    units of each stage after the one that reduces.  units: their kind, a dense 3x3 convolution or a separable one.
    neck: channels of the features that the predictions are made from.
    """

    stem: tuple[int, int] = (16, 32)
    widths: tuple[int, int, int] = (48, 64, 96)
    depths: tuple[int, int, int] = (1, 2, 3)
    units: tuple[Unit, Unit, Unit] = ("dense", "dense", "separable")
    neck: int = 48


class DetectorNet(nn.Module):
    """Pixels (B, 3, H, W) float RGB in 0..1, any size -> maps (B, 15, h, w), a stride each, finest first; see `flat`.

    A map's channels: score (a logit); in strides from the cell's own centre the box's centre x, y; the logarithms of
    its width and height in strides; five landmarks x, y.
    """

    def __init__(self, sizes: DetectorSizes) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            convolution_unit(3, sizes.stem[0], 3, 2), convolution_unit(sizes.stem[0], sizes.stem[1], 3, 2)
        )
        before = (sizes.stem[1], *sizes.widths)
        self.stages = nn.ModuleList(
            nn.Sequential(
                convolution_unit(narrow, wide, 3, 2) if kind == "dense" or i == 0 else _separable(narrow, wide, 2),
                *(convolution_unit(wide, wide, 3) if kind == "dense" else _separable(wide, wide) for _ in range(depth)),
            )
            for i, (narrow, wide, depth, kind) in enumerate(
                zip(before[:3], sizes.widths, sizes.depths, sizes.units, strict=True)
            )
        )
        self.lateral = nn.ModuleList(convolution_unit(width, sizes.neck, 1) for width in sizes.widths)
        self.smooth = nn.ModuleList(_separable(sizes.neck, sizes.neck) for _ in STRIDES)
        self.predict = nn.ModuleList(nn.Conv2d(sizes.neck, OUTPUTS, 1) for _ in STRIDES)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(pixels)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        maps: list[Tensor] = []
        coarser: Tensor | None = None
        for level in (2, 1, 0):
            feature = self.lateral[level](features[level])  # (B, neck, h, w)
            if coarser is not None:
                # Sizes round up from stride to stride, so that twice the coarser map may be one cell too large.
                larger = F.interpolate(coarser, scale_factor=2.0)
                feature = feature + larger[:, :, : feature.shape[2], : feature.shape[3]]
            coarser = feature
            maps.append(self.predict[level](self.smooth[level](feature)))
        return tuple(maps[::-1])


def flat(maps: Sequence[Tensor]) -> Tensor:
    """(B, N, 15): all cells of all strides, finest first, still as the network's maps have them."""
    return torch.cat([raw.permute(0, 2, 3, 1).flatten(1, 2) for raw in maps], dim=1)


def all_cells(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Centres (N, 2) in pixels and strides (N,) of an image's cells, in the order of `flat`."""
    centres, strides = [], []
    for (rows, columns), stride in zip(grid_sizes(height, width), STRIDES, strict=True):
        centres.append(cell_centres(rows, columns, stride, device))
        strides.append(torch.full((rows * columns,), float(stride), device=device))
    return torch.cat(centres), torch.cat(strides)


def decoded(cells: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """(..., N, 15) in pixels from cells as `flat` gives them, all or some, with their centres (N, 2) and strides (N,).

    The last axis: score (a logit), box centre x, y, width, height, five landmarks x, y.
    """
    score, centre, log_size, marks = torch.split(cells, [1, 2, 2, 2 * LANDMARKS], dim=-1)
    stride = strides[:, None]
    size = log_size.clamp(max=MAX_LOG_SIZE).exp() * stride
    moved = marks * stride + centres.repeat(1, LANDMARKS)
    return torch.cat((score, centre * stride + centres, size, moved), dim=-1)


def cell_centres(height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """(height * width, 2) float32 xy in pixels: where the receptive field of each cell is centred.

    Every reduction is a 3x3 convolution of step 2 padded by 1, so cell i looks at pixel i * stride, whose middle is
    half a pixel further.
    """
    ys = torch.arange(height, dtype=torch.float32, device=device) * stride + 0.5
    xs = torch.arange(width, dtype=torch.float32, device=device) * stride + 0.5
    grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
    return torch.stack((grid_x.flatten(), grid_y.flatten()), dim=-1)


def grid_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Cells (rows, columns) at each stride of an image of that size."""
    return [(-(-height // stride), -(-width // stride)) for stride in STRIDES]


def initialise(net: DetectorNet) -> None:
    """Scores start at `PRIOR`, boxes at twice the stride, landmarks at the centre."""
    initialise_convolutions(net)
    for layer in net.predict:
        assert isinstance(layer, nn.Conv2d) and layer.bias is not None  # noqa: S101, PT018 - for mypy
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
        with torch.no_grad():
            layer.bias[0] = -torch.logit(torch.tensor(1 - PRIOR))
            layer.bias[3:5] = 0.7


def initialise_convolutions(net: nn.Module) -> None:
    """He initialisation."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def load_weights(net: nn.Module, weights: Tensors) -> None:
    """Raises: RuntimeError if they do not fit."""
    net.load_state_dict({key: torch.from_numpy(np.asarray(value)) for key, value in weights.items()})


def convolution_unit(before: int, after: int, kernel: int, step: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation and ReLU, which `worker.core.conv_fusion` merges."""
    convolution = nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def _separable(before: int, after: int, step: int = 1) -> nn.Sequential:
    depthwise = nn.Conv2d(before, before, 3, step, 1, groups=before, bias=False)
    pointwise = nn.Conv2d(before, after, 1, bias=False)
    return nn.Sequential(depthwise, nn.BatchNorm2d(before), pointwise, nn.BatchNorm2d(after), nn.ReLU(inplace=True))
