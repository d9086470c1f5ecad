"""Which cells answer for which face, and the loss of what they answer.

Source of the losses: Li et al. 2020, Generalized Focal Loss (the score learns the overlap of its box); Rezatofighi et
al. 2019, Generalized Intersection over Union.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.faces.network import STRIDES
from worker.training.detector.settings import LossSettings

NEAR = 1.7  # cells up to so many radii away, and sizes beyond a stride's range by this factor, are told nothing
FOCUS = 2.0  # exponent of the score's focal factor
SMOOTH = 0.02  # landmark errors below this share of the face's size count squared


@dataclass(frozen=True)
class Targets:
    """face: (B, N) int64, which face each cell answers for, -1 for none.  told: (B, N) bool, whose score counts."""

    face: Tensor
    told: Tensor


def assign(centres: Tensor, strides: Tensor, faces: Tensor, unsure: Tensor, how: LossSettings) -> Targets:
    """Faces to cells, by size to a stride and by place to the cells around the face's centre.

    faces: (B, K, 14), rows of NaN where there is none; unsure: (B, M, 4), the same.
    """
    middle = (faces[..., :2] + faces[..., 2:4]) / 2  # (B, K, 2)
    size = (faces[..., 2:4] - faces[..., :2]).prod(dim=-1).sqrt()[..., None]  # (B, K, 1)
    distance = (middle[:, :, None] - centres).norm(dim=-1)  # (B, K, N); NaN compares as false everywhere
    radius = torch.maximum(how.radius_strides * strides, how.radius_size * size)
    in_strides = size / strides
    low = torch.where(strides == STRIDES[0], 0.0, how.sizes[0])
    high = torch.where(strides == STRIDES[-1], torch.inf, how.sizes[1])
    answers = (in_strides >= low) & (in_strides <= high) & (distance <= radius)
    near = (in_strides >= low / NEAR) & (in_strides <= high * NEAR) & (distance <= radius * NEAR)
    cost = torch.where(answers, distance / size, torch.inf)
    batch, _, count = cost.shape
    if not cost.shape[1]:
        face = torch.full((batch, count), -1, device=centres.device)
        silent = torch.zeros_like(face, dtype=torch.bool)
    else:
        closest, face = cost.min(dim=1)  # (B, N)
        face = torch.where(closest.isfinite(), face, -1)
        silent = near.any(dim=1)
    if unsure.shape[1]:
        inside = (centres >= unsure[:, :, None, :2]) & (centres <= unsure[:, :, None, 2:])  # (B, M, N, 2)
        silent = silent | inside.all(dim=-1).any(dim=1)
    return Targets(face, (face >= 0) | ~silent)


def detection_loss(answers: Tensor, targets: Targets, faces: Tensor, how: LossSettings) -> Tensor:
    """Scalar: focal loss of scores, GIoU of boxes, smooth L1 of landmarks in face sizes, over the cells of faces.

    answers: (B, N, 15) as the network gives them.  faces: (B, K, 14).
    """
    answers = answers.float()
    image, cell = (targets.face >= 0).nonzero(as_tuple=True)
    count = max(len(image), 1)
    quality = torch.zeros_like(answers[..., 0])
    box_loss = mark_loss = answers.sum() * 0
    if len(image):
        own = answers[image, cell]  # (P, 15)
        true = faces[image, targets.face[image, cell]]  # (P, 14)
        half = own[:, 3:5] / 2
        boxes = torch.cat((own[:, 1:3] - half, own[:, 1:3] + half), dim=1)
        overlap, generalised = _overlaps(boxes, true[:, :4])
        quality[image, cell] = overlap.detach().clamp(0, 1).sqrt()
        box_loss = (1 - generalised).sum() / count
        size = (true[:, 2:4] - true[:, :2]).prod(dim=1).sqrt()[:, None]
        mark_loss = F.smooth_l1_loss(own[:, 5:] / size, true[:, 4:] / size, beta=SMOOTH, reduction="sum") / count
    score = answers[..., 0]
    focal = (score.sigmoid() - quality).abs() ** FOCUS
    losses = F.binary_cross_entropy_with_logits(score, quality, reduction="none") * focal
    score_loss = (losses * targets.told).sum() / count
    return how.score * score_loss + how.box * box_loss + how.landmarks * mark_loss


def _overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of rows of boxes, (P, 4) each."""
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(dim=1)
    union = (a[:, 2:] - a[:, :2]).prod(dim=1) + (b[:, 2:] - b[:, :2]).prod(dim=1) - inner
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(dim=1)
    overlap = inner / union.clamp(min=1e-6)
    return overlap, overlap - (hull - union) / hull.clamp(min=1e-6)
