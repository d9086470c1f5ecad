"""Fit the fusion: each member's temperature and weight, on held-out data.

The fused probabilities are the weighted mean of the members' tempered softmaxes, as they are served; the fit minimises
their negative log likelihood, so weights and calibration are found together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.ensemble.fusion import fuse

STEPS = 400
RATE = 0.05


@dataclass(frozen=True)
class Fusion:
    """temperatures and weights, one a member; weights sum to 1."""

    temperatures: tuple[float, ...]
    weights: tuple[float, ...]


def plain_fusion(weights: Sequence[float]) -> Fusion:
    """The published one, where weights are equal: the weighted mean of plain softmaxes."""
    return Fusion((1.0,) * len(weights), tuple(weight / sum(weights) for weight in weights))


def fit_fusion(
    logits: Tensor, truth: Tensor, importance: Tensor, shares: Tensor | None = None, given: Sequence[float] = ()
) -> Fusion:
    """Fit on labelled rows.

    logits: (M, N, K) float32 of each member.  truth: (N,) int64.  importance: (N,) how much each row counts.
    shares: (K,) of the labels among the rows, where the logits are those of equally frequent labels: the fused
    probabilities are moved to them before they are judged, as serving moves them to the prior that is asked for.
    given: weights of the members, where only temperatures are to be fitted.
    """
    members = len(logits)
    log_temperatures = torch.zeros(members, requires_grad=True)
    scores = torch.tensor(given).log() if given else torch.zeros(members)
    scores.requires_grad_(not given)
    share = importance / importance.sum()
    optimiser = torch.optim.Adam([log_temperatures, *([] if given else [scores])], lr=RATE)
    for _ in range(STEPS):
        fused = fused_probabilities(logits, log_temperatures.exp(), scores.softmax(dim=0))
        if shares is not None:
            fused = fused * shares / (fused * shares).sum(dim=-1, keepdim=True)
        loss = (F.nll_loss(fused.clamp(min=1e-9).log(), truth, reduction="none") * share).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    weights = scores.detach().softmax(dim=0)
    return Fusion(
        tuple(round(float(v), 4) for v in log_temperatures.detach().exp()), tuple(round(float(w), 4) for w in weights)
    )


def fused_probabilities(logits: Tensor, temperatures: Tensor, weights: Tensor) -> Tensor:
    """(M, N, K) logits, (M,) temperatures, (M,) weights that sum to 1 -> (N, K) probabilities."""
    probabilities = torch.softmax(logits / temperatures.view(-1, 1, 1), dim=-1)
    return fuse(probabilities, weights)
