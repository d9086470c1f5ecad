"""The identity network on disk: a folder with `identity.json`, weights, a card and the licence.

`python -m worker import --identity PACKAGE` makes it.  Weights are stored as in the package: bytes with a scale and an
offset per tensor, a quarter of float32; hashes are verified before a tensor is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from model_store.bundle import NewBundle, Tensors, read_checked, read_verified, whole, write_tensors
from model_store.manifest import Sha256, WeightsFile

IDENTITY_DIR = Path(__file__).parent / "identity"
MANIFEST_FILE = "identity.json"
SCALE, OFFSET = ".scale", ".offset"  # suffixes of the scale and offset of a tensor of bytes


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IdentitySource(_Frozen):
    """The published files from which the weights were read."""

    package: str = Field(description="file name of the package in its index")
    package_sha256: Sha256
    member: str
    member_sha256: Sha256
    licence: str
    paper: str


class IdentityManifest(_Frozen):
    """`identity.json`."""

    format_version: Literal[1] = 1
    network: Literal["dlib_resnet"] = "dlib_resnet"
    weights: WeightsFile
    source: IdentitySource
    command: str


def load_identity(folder: Path = IDENTITY_DIR) -> Tensors:
    """The weights as float32.  Raises: BundleError if a file is missing, damaged or invalid."""
    folder = whole(folder, MANIFEST_FILE)
    manifest = read_checked(folder / MANIFEST_FILE, IdentityManifest, 1)
    stored = read_verified(folder / manifest.weights.file, manifest.weights.sha256)
    return {
        name: np.asarray(tensor * stored[name + SCALE] + stored[name + OFFSET], np.float32)
        if name + SCALE in stored
        else tensor
        for name, tensor in stored.items()
        if not name.endswith((SCALE, OFFSET))
    }


def write_identity(
    folder: Path,
    tensors: Mapping[str, np.ndarray],
    *,
    source: IdentitySource,
    command: str,
    card: str,
    licence: str,
) -> None:
    """Write the folder atomically; an existing one is replaced.  Raises: BundleError."""
    with NewBundle(folder, replace=True, manifest_file=MANIFEST_FILE) as path:
        weights = write_tensors(path, "weights.safetensors", tensors)
        manifest = IdentityManifest(weights=weights, source=source, command=command)
        (path / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
        (path / "README.md").write_text(card)
        (path / "LICENSE").write_text(licence)
