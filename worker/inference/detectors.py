"""Which face detector serves, and how a stored one becomes a stage: the one place that knows both sides."""

from __future__ import annotations

from pathlib import Path

import torch

from model_store.bundle import BundleError
from model_store.detector import (
    DEFAULT_DETECTOR,
    DETECTORS_DIR,
    DetectorArchitecture,
    RefinementArchitecture,
    StoredDetector,
    load_detector,
)
from worker.faces import Detector
from worker.faces.cascade import Cascade
from worker.faces.levelled import Levelled
from worker.faces.mien import Mien, MienSpec
from worker.faces.network import DetectorSizes
from worker.faces.refinement import RefinementSizes
from worker.faces.threaded import Threaded
from worker.faces.yunet import YuNet

LEVELLED = "levelled"
YUNET_FILE = "face_detection_yunet_2023mar.onnx"


def open_detector(name: str | None, device: torch.device) -> Detector:
    """The detector of that name.

    name: `mien` (ours, as it ships), `mien:FOLDER`, `cascade`, `yunet:FILE`, or a YuNet file alone; `levelled:` and any
    of these for `Levelled`; None for the one that serves by default: YuNet where its file lies in the model store,
    because an operator put it there, else ours.

    Raises: DetectorError or BundleError, with one sentence that names the file, if it cannot be used.
    """
    if not name:
        stored = DETECTORS_DIR / YUNET_FILE
        name = f"yunet:{stored}" if stored.is_file() else Mien.name
    kind, _, path = name.partition(":")
    if kind == Cascade.name:
        return Cascade()
    if kind == LEVELLED:
        return Levelled(open_detector(path, device))
    if kind == Mien.name:
        mien = build_mien(load_detector(Path(path) if path else DEFAULT_DETECTOR), device)
        return Threaded(mien) if device.type == "cuda" else mien
    return YuNet(Path(path) if kind == YuNet.name and path else Path(name))


def build_mien(stored: StoredDetector, device: torch.device) -> Mien:
    """Our detector from verified weights.  Raises: BundleError if they do not fit the manifest's sizes."""
    manifest = stored.manifest
    spec = MienSpec(
        detector_sizes(manifest.network),
        manifest.max_side_px,
        manifest.min_score,
        manifest.small_bonus,
        None if manifest.refinement is None else refinement_sizes(manifest.refinement),
    )
    try:
        return Mien(spec, stored.tensors, device)
    except RuntimeError as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2])  # which network, and what of it
        raise BundleError(f"detector {manifest.name}: the weights do not fit the manifest: {reason}") from None


def detector_sizes(network: DetectorArchitecture) -> DetectorSizes:
    """The manifest's words as the network's."""
    return DetectorSizes(network.stem, network.widths, network.depths, network.units, network.neck)


def refinement_sizes(network: RefinementArchitecture) -> RefinementSizes:
    """The manifest's words as the network's."""
    return RefinementSizes(network.widths, network.last)


def manifest_sizes(sizes: DetectorSizes) -> DetectorArchitecture:
    """The network's sizes in the manifest's words."""
    return DetectorArchitecture(
        stem=sizes.stem, widths=sizes.widths, depths=sizes.depths, units=sizes.units, neck=sizes.neck
    )


def manifest_refinement(sizes: RefinementSizes) -> RefinementArchitecture:
    """The sizes of the network that makes landmarks exact, in the manifest's words."""
    return RefinementArchitecture(widths=sizes.widths, last=sizes.last)
