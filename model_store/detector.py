"""A face detector on disk: a folder with `detector.json`, one safetensors file and a card.

`detectors/default` is the one that ships.  As with bundles, the file's hash is verified before a tensor is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from model_store.bundle import NewBundle, Tensors, read_checked, read_verified, whole, write_tensors
from model_store.manifest import Sha256, WeightsFile

DETECTORS_DIR = Path(__file__).parent / "detectors"
DEFAULT_DETECTOR = DETECTORS_DIR / "default"
MANIFEST_FILE = "detector.json"
WEIGHTS_FILE = "weights.safetensors"
CARD_FILE = "README.md"
FORMAT_VERSION = 1

Channels = Annotated[int, Field(ge=1, le=1024)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DetectorArchitecture(_Frozen):
    """Sizes of the network; see `worker.faces.network.DetectorSizes`."""

    architecture: Literal["mien"] = "mien"
    stem: tuple[Channels, Channels]
    widths: tuple[Channels, Channels, Channels]
    depths: tuple[int, int, int]
    units: tuple[Literal["dense", "separable"], Literal["dense", "separable"], Literal["dense", "separable"]]
    neck: Channels


class RefinementArchitecture(_Frozen):
    """Sizes of the network that makes landmarks exact; see `worker.faces.refinement.RefinementSizes`."""

    widths: tuple[Channels, Channels, Channels, Channels, Channels]
    last: Channels


class DetectorProvenance(_Frozen):
    """Where the weights come from, so that the training can be judged and repeated."""

    data: str
    data_sha256: dict[str, Sha256]
    data_terms: str
    command: str
    settings: dict[str, Any]
    commit: str | None = None
    seed: int
    created_at: str
    notes: str = Field("", description="what the settings do not say")


class DetectorMeasurement(_Frozen):
    """What was measured on which data by which command; values by name."""

    data: str
    command: str
    values: dict[str, float]


class DetectorManifest(_Frozen):
    """`detector.json`."""

    format_version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")
    network: DetectorArchitecture
    refinement: RefinementArchitecture | None = Field(
        None, description="null: landmarks stay as the network gives them"
    )
    weights: WeightsFile
    max_side_px: int = Field(640, ge=64, le=4096, description="frames are reduced to this longer side")
    min_score: float = Field(gt=0, lt=1, description="faces from this score on, where a job asks for no other")
    small_bonus: float = Field(
        0.0,
        ge=0,
        le=2,
        description="added to a score's logit for each halving of a box below 64 px, three at most",
    )
    provenance: DetectorProvenance
    measurements: tuple[DetectorMeasurement, ...] = ()
    licence: str
    intended_use: str


@dataclass(frozen=True)
class StoredDetector:
    """A verified detector."""

    manifest: DetectorManifest
    tensors: Tensors


def load_detector(folder: Path) -> StoredDetector:
    """Read and verify.  Raises: BundleError if the manifest or the weights are missing, damaged or invalid."""
    folder = whole(folder, MANIFEST_FILE)
    manifest = read_checked(folder / MANIFEST_FILE, DetectorManifest, FORMAT_VERSION)
    weights = manifest.weights
    return StoredDetector(manifest, read_verified(folder / weights.file, weights.sha256))


def store_weights(folder: Path, tensors: Mapping[str, np.ndarray]) -> WeightsFile:
    """Write the weights into a folder and return their name and hash, for the manifest."""
    return write_tensors(folder, WEIGHTS_FILE, tensors)


def write_manifest(folder: Path, manifest: DetectorManifest, card: str) -> None:
    """Write manifest and card into a folder."""
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
    (folder / CARD_FILE).write_text(card)


def new_detector(folder: Path) -> NewBundle:
    """Context manager: write into `.path`; on success it replaces a detector at `folder`, on an error nothing stays.

    Raises: BundleError on entry if `folder` exists and is neither empty nor a detector.
    """
    return NewBundle(folder, replace=True, manifest_file=MANIFEST_FILE)
