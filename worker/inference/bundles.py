"""From a verified bundle to networks: maps the manifest to the ensemble's classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from model_store.bundle import Bundle, BundleError
from model_store.manifest import BackboneSpec, Manifest
from model_store.members import HeadSpec
from worker.ensemble import backbones, members
from worker.ensemble.networks import Ensemble, Member, Normalise, stored_tensors
from worker.inference.specs import prior_of

Module = TypeVar("Module", bound=nn.Module)


def build_normalise(manifest: Manifest) -> Normalise:
    """The bundle's normalisation."""
    return Normalise(manifest.input.scale, manifest.input.mean, manifest.input.std)


def build_backbone(spec: BackboneSpec, channels: int) -> backbones.Backbone:
    """An untrained backbone of the manifest's architecture."""
    sizes = spec.model_dump(exclude={"architecture"})
    return backbones.ARCHITECTURES[spec.architecture](channels=channels, **sizes)


def build_head(spec: HeadSpec, feature_size: int, labels: int) -> members.Head:
    """An untrained head of the manifest's architecture."""
    sizes = spec.model_dump(exclude={"architecture"})
    return members.ARCHITECTURES[spec.architecture](feature_size=feature_size, labels=labels, **sizes)


def build_ensemble(bundle: Bundle) -> Ensemble:
    """The bundle's networks on the CPU in float32, in eval mode.

    Raises: BundleError if a file's tensors do not match the manifest's architecture.
    """
    manifest = bundle.manifest
    built: dict[str, backbones.Backbone] = {}
    loaded: list[Member] = []
    for spec in manifest.members:
        key = spec.backbone_weights.sha256
        if key not in built:
            backbone = build_backbone(spec.backbone, manifest.input.channels)
            built[key] = _filled(backbone, spec.backbone_weights.file, bundle.tensors)
        head = build_head(spec.head, built[key].feature_size, len(manifest.labels))
        head = _filled(head, spec.head_weights.file, bundle.tensors)
        loaded.append(Member(spec.name, key, head, spec.temperature, spec.fusion_weight))
    normalise, prior = build_normalise(manifest), prior_of(manifest)
    ensemble = Ensemble(manifest.labels, manifest.window, normalise, built, tuple(loaded), prior)
    for module in ensemble.modules():
        module.eval().requires_grad_(False)
    return ensemble


def module_tensors(module: nn.Module, dtype: torch.dtype = torch.float32) -> dict[str, np.ndarray]:
    """A module's weights for a bundle: floating tensors in `dtype`, without batch counters."""
    return {key: value.detach().cpu().to(dtype).numpy() for key, value in stored_tensors(module).items()}


def _filled(module: Module, file: str, tensors: Mapping[str, Mapping[str, np.ndarray]]) -> Module:
    wanted = stored_tensors(module)
    given = tensors[file]
    if missing := sorted(wanted.keys() - given.keys()):
        raise BundleError(f"{file} lacks {len(missing)} tensors of its architecture, first {missing[0]!r}")
    if extra := sorted(given.keys() - wanted.keys()):
        raise BundleError(f"{file} has {len(extra)} tensors its architecture does not know, first {extra[0]!r}")
    for key, value in wanted.items():
        if tuple(value.shape) != given[key].shape:
            raise BundleError(f"{file}: {key!r} has shape {given[key].shape}, the manifest says {tuple(value.shape)}")
        if not np.isfinite(given[key]).all():
            raise BundleError(f"{file}: {key!r} holds values that are not numbers")
    state = {key: torch.from_numpy(np.array(given[key], np.float32)) for key in wanted}
    module.load_state_dict(state, strict=False)
    return module
