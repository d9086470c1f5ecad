"""Augmentation of still face crops, on whole batches in torch.

Crops in serving are aligned only approximately and come from video, so training crops are rotated, scaled, shifted,
blurred, noisy, too dark, too bright or partly covered.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """The strength of each change.

    rotation: degrees either way.  scale: relative change of size either way.  shift: fraction of the side either way.
    stretch: relative change of aspect either way.  light: brightness, as a fraction of white, and contrast, relative,
    either way.  gamma: the exponent lies in 1/(1+gamma)..1+gamma.  The rest are probabilities per image: `flip`,
    `erase` (a covered rectangle of up to `erase_area` of the crop), `blur` (a crop as small as `blur_side` of its side
    scaled up again), `noise` (Gaussian, deviation up to `noise_level` of white).
    """

    flip: float = 0.5
    rotation: float = 18.0
    scale: float = 0.15
    shift: float = 0.08
    stretch: float = 0.06
    light: float = 0.2
    gamma: float = 0.4
    erase: float = 0.25
    erase_area: float = 0.2
    blur: float = 0.2
    blur_side: float = 0.35
    noise: float = 0.2
    noise_level: float = 0.06


FLIP_ONLY = Augmentation(
    rotation=0, scale=0, shift=0, stretch=0, light=0, gamma=0, erase=0, blur=0, noise=0
)  # the only change of the published recipe besides its random resized crop


def augment(pixels: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Random changes, independent for every image.

    pixels: (N, H, W, C) uint8.  Returns the same shape, float32 in 0..255.
    """
    flipped = _chosen(len(pixels), how.flip, generator).view(-1, 1, 1, 1)
    pixels = torch.where(flipped, pixels.flip(2), pixels)
    if how == dataclasses.replace(FLIP_ONLY, flip=how.flip):
        return pixels.float()
    x = pixels.permute(0, 3, 1, 2).float() / 255.0  # (N, C, H, W)
    x = _move(x, how, generator)
    x = _blur(x, how, generator)
    x = _light(x, how, generator)
    x = _erase(x, how, generator)
    x = _noise(x, how, generator)
    return (x * 255.0).clamp_(0.0, 255.0).permute(0, 2, 3, 1)


def _symmetric(count: int, limit: float, generator: torch.Generator) -> Tensor:
    """(N,) float32, uniform in -limit..limit."""
    return (torch.rand(count, generator=generator) * 2 - 1) * limit


def _chosen(count: int, probability: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) < probability


def _move(x: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    count = len(x)
    angle = torch.deg2rad(_symmetric(count, how.rotation, generator))
    size = torch.exp(_symmetric(count, how.scale, generator))
    aspect = torch.exp(_symmetric(count, how.stretch, generator))
    shift_x, shift_y = (2 * _symmetric(count, how.shift, generator) for _ in range(2))  # the grid spans -1..1
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    row_x = torch.stack((cos * aspect, -sin, shift_x), dim=1)
    row_y = torch.stack((sin, cos / aspect, shift_y), dim=1)
    grid = F.affine_grid(torch.stack((row_x, row_y), dim=1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _blur(x: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    chosen = _chosen(len(x), how.blur, generator).nonzero()[:, 0]
    smallest = how.blur_side + (1 - how.blur_side) * torch.rand(1, generator=generator).item()
    side = max(round(x.shape[-1] * smallest), 2)
    if len(chosen) and side < x.shape[-1]:
        small = F.interpolate(x[chosen], size=(side, side), mode="area")
        x[chosen] = F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False)
    return x


def _light(x: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    count = len(x)
    gamma = torch.exp(_symmetric(count, torch.log1p(torch.tensor(how.gamma)).item(), generator))
    contrast = 1 + _symmetric(count, how.light, generator)
    brightness = _symmetric(count, how.light, generator)
    x = x.clamp(1e-4, 1.0).pow(gamma.view(-1, 1, 1, 1))
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * contrast.view(-1, 1, 1, 1) + mean + brightness.view(-1, 1, 1, 1)


def _erase(x: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    count, _, height, width = x.shape
    chosen = _chosen(count, how.erase, generator)
    area = how.erase_area * torch.rand(count, generator=generator)
    aspect = torch.exp(_symmetric(count, 1.0, generator))
    half_h, half_w = (area * aspect).sqrt() / 2, (area / aspect).sqrt() / 2
    centre = torch.rand(2, count, generator=generator)
    rows, columns = torch.arange(height) / height, torch.arange(width) / width
    in_rows = (rows - centre[0, :, None]).abs() < half_h[:, None]  # (N, H)
    in_columns = (columns - centre[1, :, None]).abs() < half_w[:, None]  # (N, W)
    covered = in_rows[:, None, :, None] & in_columns[:, None, None, :] & chosen.view(-1, 1, 1, 1)
    grey = torch.rand(count, generator=generator).view(-1, 1, 1, 1)
    return torch.where(covered, grey, x)


def _noise(x: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    level = how.noise_level * torch.rand(len(x), generator=generator) * _chosen(len(x), how.noise, generator)
    return x + torch.randn(x.shape, generator=generator) * level.view(-1, 1, 1, 1)
