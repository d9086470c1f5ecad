"""The fusion: the members' probabilities as one, given at the prior that is asked for.

A classifier's scores hold the shares that the labels had in its training: of a face that it cannot tell, it says the
frequent label.  Dividing them out, in part or altogether, moves the operating point and nothing else; with s the
shares, T how much of them the scores hold, and P how much is wanted, scores * s ** (P - T), scaled to sum 1.
Source: Saerens, Latinne, Decaestecker 2002, Adjusting the outputs of a classifier to new a priori probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class NoPriorError(ValueError):
    """A prior is asked for, and the bundle does not tell how frequent its labels were in training."""


@dataclass(frozen=True)
class Prior:
    """What a bundle knows of its labels' frequencies.

    shares: of each label in training, each above 0, sum 1.  trained: how much of them the fused probabilities hold, 0
    (nothing: balanced) to 1.  default: how much the scores of a job hold that asks for nothing.
    """

    shares: tuple[float, ...]
    trained: float
    default: float

    def shifted(self, probabilities: Tensor, wanted: float) -> Tensor:
        """Probabilities (..., K) at the prior `wanted`; the very same where it is `trained`."""
        exponent = wanted - self.trained
        if exponent == 0:
            return probabilities
        shares = torch.tensor(self.shares, dtype=torch.float64)
        factors = (shares / shares.max()) ** exponent
        moved = probabilities * factors.to(dtype=probabilities.dtype, device=probabilities.device)
        return moved / moved.sum(dim=-1, keepdim=True)


def fuse(probabilities: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over members: (M, ..., K) probabilities, (M,) weights -> (..., K).

    Members whose weights are all zero, which may be those somebody chose to see alone, count equally.
    """
    if not weights.any():
        weights = torch.ones_like(weights)
    share = (weights / weights.sum()).view(-1, *[1] * (probabilities.ndim - 1))
    return (share * probabilities).sum(dim=0)


def prior_in_use(prior: Prior | None, wanted: float | None) -> float | None:
    """What scores are given at where `wanted` is asked for, or nothing (None); None where the bundle tells no prior.

    Raises: NoPriorError if one is asked for all the same.
    """
    if prior is not None:
        return prior.default if wanted is None else wanted
    if wanted is not None:
        raise NoPriorError("prior: the bundle does not tell how frequent its labels were in training; leave it out")
    return None


def fuse_at(probabilities: Tensor, weights: Tensor, prior: Prior | None, wanted: float | None) -> tuple[Tensor, Tensor]:
    """Members' probabilities (M, ..., K) -> fused (..., K) and members' (M, ..., K), both at the prior `wanted`.

    wanted: None for the bundle's default.  Raises: NoPriorError.
    """
    fused, used = fuse(probabilities, weights), prior_in_use(prior, wanted)
    if prior is None or used is None:
        return fused, probabilities
    return prior.shifted(fused, used), prior.shifted(probabilities, used)
