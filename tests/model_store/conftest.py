"""A whole bundle of tiny networks, and its manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model_store.bundle import MANIFEST_FILE, write_manifest, write_tensors
from model_store.manifest import Manifest, Member
from worker.ensemble.backbones import initialise
from worker.inference.bundles import build_backbone, build_head, module_tensors

LABELS = ("Neutral", "Anger", "Happiness")
BACKBONE = {"architecture": "compact_resnet", "stem": 4, "widths": [8], "blocks": [1]}
HEADS: dict[str, dict[str, Any]] = {
    "cnn": {"architecture": "frame"},
    "cnn_rnn": {"architecture": "gru", "embedding": 8, "hidden": 4},
    "cnn_transformer": {"architecture": "transformer", "embedding": 8, "heads": 2, "depth": 1},
}
ZERO_SHA256 = "0" * 64


def tiny_fields() -> dict[str, Any]:
    """The fields of a valid manifest without its files."""
    members = [
        {
            "name": name,
            "backbone": BACKBONE,
            "backbone_weights": {"file": "backbone.safetensors", "sha256": ZERO_SHA256},
            "head": head,
            "head_weights": {"file": f"{name}.safetensors", "sha256": ZERO_SHA256},
            "fusion_weight": 1.0,
        }
        for name, head in HEADS.items()
    ]
    return {
        "format_version": 1,
        "name": "tiny",
        "version": "1",
        "labels": list(LABELS),
        "input": {
            "size": 16,
            "colour": "grey",
            "scale": 1 / 255,
            "mean": [0.5],
            "std": [0.25],
            "alignment": {
                "landmarks": [[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]],
                "box_scale": 1.0,
                "box_shift_y": 0.0,
            },
        },
        "window": 9,
        "members": members,
        "provenance": {
            "data": "none",
            "data_terms": "none",
            "recipe": "none",
            "created_at": "2026-01-01T00:00:00Z",
            "clips_from_stills": True,
        },
        "licence": "MIT",
        "intended_use": "tests",
    }


def write_tiny(folder: Path, fields: dict[str, Any]) -> Manifest:
    """Write a bundle of untrained networks into an existing folder -> its manifest."""
    torch.manual_seed(0)
    manifest = Manifest.model_validate(fields)
    backbone = build_backbone(manifest.members[0].backbone, manifest.input.channels)
    initialise(backbone)
    shared = write_tensors(folder, "backbone.safetensors", module_tensors(backbone))
    members: list[Member] = []
    for member in manifest.members:
        head = build_head(member.head, backbone.feature_size, len(manifest.labels))
        weights = write_tensors(folder, f"{member.name}.safetensors", module_tensors(head))
        members.append(member.model_copy(update={"backbone_weights": shared, "head_weights": weights}))
    written = manifest.model_copy(update={"members": tuple(members)})
    write_manifest(folder, written)
    return written


@pytest.fixture
def manifest_fields() -> dict[str, Any]:
    """See `tiny_fields`."""
    return tiny_fields()


@pytest.fixture
def write_bundle(manifest_fields: dict[str, Any]) -> Callable[[Path], Manifest]:
    """See `write_tiny`; a test may change the fields before."""
    return lambda folder: write_tiny(folder, manifest_fields)


@pytest.fixture
def bundle_folder(tmp_path: Path, write_bundle: Callable[[Path], Manifest]) -> Path:
    """Folder of a valid bundle."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    write_bundle(folder)
    assert (folder / MANIFEST_FILE).is_file()
    return folder
