"""Fusion: combine the members' probabilities and adjust them to the requested prior.

A classifier's scores reflect the label frequencies of its training: for an ambiguous face it predicts the frequent
label.  Dividing the frequencies out, in part or fully, moves the operating point and nothing else.  With s the training
frequencies, T the exponent with which the scores contain them, and P the requested one: scores * s ** (P - T),
normalised to sum 1.
Source: Saerens, Latinne, Decaestecker 2002, Adjusting the outputs of a classifier to new a priori probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Floats = npt.NDArray[np.float32]
Array = TypeVar("Array", Floats, "Tensor")  # the fit of the fusion needs gradients, serving no torch


class NoPriorError(ValueError):
    """A prior is requested, but the bundle does not record the label frequencies of its training."""


@dataclass(frozen=True)
class Prior:
    """A bundle's label frequencies.

    shares: (K,) frequency of each label in training, each above 0, sum 1.  trained: the exponent, 0 (balanced) to 1,
    with which the fused probabilities contain them.  default: the exponent of a job without the option.
    """

    shares: tuple[float, ...]
    trained: float
    default: float

    def shifted(self, probabilities: Floats, wanted: float) -> Floats:
        """Probabilities (..., K) at the prior `wanted`, in 0..1; the input itself if that equals `trained`."""
        exponent = wanted - self.trained
        if exponent == 0:
            return probabilities
        shares = np.array(self.shares)
        moved = probabilities * ((shares / shares.max()) ** exponent).astype(probabilities.dtype)
        return np.asarray(moved / moved.sum(axis=-1, keepdims=True), np.float32)


def fuse(probabilities: Array, weights: Array) -> Array:
    """Weighted mean over members: (M, ..., K) probabilities, (M,) weights -> (..., K).

    If all weights are zero, which a job's choice of members can cause, the members count equally.
    """
    if not weights.any():
        weights = weights + 1
    share = (weights / weights.sum()).reshape(-1, *[1] * (probabilities.ndim - 1))
    return (share * probabilities).sum(0)  # type: ignore[no-any-return]


def prior_in_use(prior: Prior | None, wanted: float | None) -> float | None:
    """The prior of the scores: `wanted`, else the bundle's default; None if the bundle records no frequencies.

    Raises: NoPriorError if one is requested from such a bundle.
    """
    if prior is not None:
        return prior.default if wanted is None else wanted
    if wanted is not None:
        raise NoPriorError("prior: the bundle does not tell how frequent its labels were in training; leave it out")
    return None


def fuse_at(probabilities: Floats, weights: Floats, prior: Prior | None, wanted: float | None) -> tuple[Floats, Floats]:
    """Members' probabilities (M, ..., K) -> fused (..., K) and by member (M, ..., K), both at the prior `wanted`.

    wanted: None for the bundle's default.  Raises: NoPriorError.
    """
    fused, used = fuse(probabilities, weights), prior_in_use(prior, wanted)
    if prior is None or used is None:
        return fused, probabilities
    return prior.shifted(fused, used), prior.shifted(probabilities, used)
