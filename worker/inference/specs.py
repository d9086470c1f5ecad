"""What a manifest says, in the stages' terms."""

from __future__ import annotations

import numpy as np

from model_store.manifest import Input, Manifest
from worker.crops import CropSpec
from worker.ensemble.engine import Ensembled
from worker.ensemble.fusion import Prior


def crop_spec(given: Input) -> CropSpec:
    """The crops of a bundle."""
    alignment = given.alignment
    return CropSpec(
        size=given.size,
        colour=given.colour,
        landmarks=np.asarray(alignment.landmarks, np.float32),
    )


def crop_shape(given: Input) -> tuple[int, int, int]:
    """(size, size, channels) of a crop."""
    return (given.size, given.size, given.channels)


def prior_of(manifest: Manifest) -> Prior | None:
    """The label frequencies, if the bundle has them."""
    return None if manifest.prior is None else Prior(**manifest.prior.model_dump())


def ensembled(manifest: Manifest) -> Ensembled:
    """The bundle's ensemble, for the engine."""
    weights = {member.name: member.fusion_weight for member in manifest.members}
    return Ensembled(manifest.labels, manifest.window, weights, prior_of(manifest))
