"""Write what was trained as a stored detector: weights, manifest, card."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from model_store.detector import (
    DetectorArchitecture,
    DetectorManifest,
    DetectorMeasurement,
    DetectorProvenance,
    StoredDetector,
    new_detector,
    store_weights,
    write_manifest,
)
from worker.faces.mien import REFINEMENT, MienSpec, split_weights
from worker.faces.network import Tensors
from worker.inference.detectors import manifest_refinement, manifest_sizes
from worker.training.detector.settings import DetectorSettings, as_json
from worker.training.loop import METRIC, Outcome

LICENCE = "MIT for the weights; read the terms of the training data before commercial use"
INTENDED_USE = (
    "Finding the faces that Mien labels, with the landmarks their crops are aligned by. It tells where a face is, not "
    "whose. Not for identifying, counting or following people without their knowledge."
)
LANDMARKS_SETTINGS = ("refinement", "views", "landmarks")
DATA = (
    "Scenes composed while training: 13,049 press portraits (muxspace/facial_expressions) and small faces of FER2013 "
    "pasted over 714 pictures without a face (ImageNet samples), and 286 pictures with people. Boxes and landmarks are "
    "OpenCV's YuNet's: its answers for the very scene, and for the network that makes landmarks exact the median of "
    "its answers for four views of each face. No labels made by people, no video."
)
TERMS = (
    "Portraits: Apache-2.0 repository of press photographs. FER2013: collected from the web in 2013. Backgrounds: "
    "ImageNet samples, collected from the web for research. YuNet: MIT. Used for training and measuring only; no image "
    "is distributed with the weights."
)
FAILURES = """\
- It learnt from YuNet's answers, so it also learnt YuNet's mistakes; figures against YuNet say how alike they are, not
  how often either is right.
- The portraits are upright or nearly so, most look towards the camera, and most are of adults in the press. Profiles,
  faces tilted by more than 40 degrees, children, masks, drawings and faces smaller than 10 pixels at 640 pixels' width
  are missed more often.
- Faces of animals and statues, and painted ones, are sometimes found.
- Faces narrower than 20 pixels in the frame are left out.
- Nobody has measured how misses differ between groups of people.
"""


@dataclass(frozen=True)
class Finding:
    """The network that finds faces, trained now or kept from a stored detector: weights, sizes, and how it is used.

    settings: of its training, as JSON values.  notes: what they do not say.  data: hashes of what it learnt from, where
    that was not this run's.
    """

    tensors: Tensors
    network: DetectorArchitecture
    min_score: float
    small_bonus: float
    measurements: tuple[DetectorMeasurement, ...]
    settings: dict[str, Any]
    max_side_px: int = MienSpec.max_side_px
    licence: str = LICENCE
    notes: str = ""
    data: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Names:
    """What a detector is called, and the licence of its weights."""

    name: str
    version: str
    licence: str


@dataclass(frozen=True)
class Origin:
    """data: hashes of files by name.  command and commit: what trained."""

    data: dict[str, str]
    command: str
    commit: str | None


def trained(outcome: Outcome, settings: DetectorSettings, command: str) -> Finding:
    """From a training's outcome, whose metrics hold the threshold that serves."""
    return Finding(
        _tensors(outcome),
        manifest_sizes(settings.sizes),
        round(outcome.metrics["threshold"], 4),
        settings.small_bonus,
        (_measurement("held-out portraits, pictures and backgrounds", outcome, command),),
        as_json(settings),
    )


def kept(stored: StoredDetector) -> Finding:
    """The network of a stored detector as it is, and how it is used."""
    manifest = stored.manifest
    origin = manifest.provenance
    notes = (
        f"The network that finds faces was kept from {manifest.name} {manifest.version}, which was written at commit "
        f"{origin.commit or 'unknown'} by `{origin.command}`."
    )
    return Finding(
        split_weights(stored.tensors)[0],
        manifest.network,
        manifest.min_score,
        manifest.small_bonus,
        manifest.measurements[:1],
        {name: value for name, value in origin.settings.items() if name not in LANDMARKS_SETTINGS},
        manifest.max_side_px,
        manifest.licence,
        f"{notes} {origin.notes}".strip(),
        {f"kept: {name.removeprefix('kept: ')}": value for name, value in origin.data_sha256.items()}
        | {"kept: weights": manifest.weights.sha256},
    )


def write_detector(
    folder: Path, names: Names, finding: Finding, landmarks: Outcome, settings: DetectorSettings, origin: Origin
) -> DetectorManifest:
    """Write a detector to `folder`.  landmarks: the outcome of the stage that makes them exact.

    Raises: BundleError if the folder holds something else.
    """
    refining = {REFINEMENT + key: value for key, value in _tensors(landmarks).items()}
    own = as_json(settings)
    provenance = DetectorProvenance(
        data=DATA,
        data_sha256=finding.data | origin.data,
        data_terms=TERMS,
        command=origin.command,
        settings=finding.settings | {name: own[name] for name in LANDMARKS_SETTINGS},
        commit=origin.commit,
        seed=settings.seed,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=finding.notes,
    )
    with new_detector(folder) as path:
        manifest = DetectorManifest(
            name=names.name,
            version=names.version,
            network=finding.network,
            refinement=manifest_refinement(settings.refinement),
            weights=store_weights(path, {**finding.tensors, **refining}),
            max_side_px=finding.max_side_px,
            min_score=finding.min_score,
            small_bonus=finding.small_bonus,
            provenance=provenance,
            measurements=(
                *finding.measurements,
                _measurement("views of held-out portraits, misplaced at random", landmarks, origin.command),
            ),
            licence=names.licence,
            intended_use=INTENDED_USE,
        )
        write_manifest(path, manifest, card(manifest))
    return manifest


def _tensors(outcome: Outcome) -> Tensors:
    # The count of batches is the trainer's, not the network's; the running statistics stay.
    return {
        key: value.detach().cpu().float().numpy()
        for key, value in outcome.state.items()
        if "num_batches_tracked" not in key
    }


def _measurement(data: str, outcome: Outcome, command: str) -> DetectorMeasurement:
    values = {name: round(value, 4) for name, value in outcome.metrics.items() if name != METRIC}
    return DetectorMeasurement(data=data, command=command, values=values)


def card(manifest: DetectorManifest) -> str:
    """Markdown: what it is for, what was measured how, what it was trained on, where it fails, terms."""
    origin = manifest.provenance
    lines = [f"# {manifest.name} {manifest.version}", "", "A face detector: boxes, scores and five landmarks.", ""]
    lines += ["## Intended use", "", manifest.intended_use, "", "## Measured", ""]
    for measurement in manifest.measurements:
        lines += [f"On {measurement.data}, by `{measurement.command}`:", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {value:g} |" for name, value in measurement.values.items()]
        lines.append("")
    lines += [
        f"Faces count from a score of {manifest.min_score:g} on: the lowest at which held-out pictures without a face "
        "gave at most two false boxes in a hundred.",
        "",
        "## Training data",
        "",
        origin.data,
        "",
        origin.data_terms,
        "",
        f"Trained by `{origin.command}`, seed {origin.seed}, at commit {origin.commit or 'unknown'}.",
        "",
        *([origin.notes, ""] if origin.notes else []),
        "## Where it fails",
        "",
        FAILURES,
        "## Licence",
        "",
        manifest.licence,
        "",
    ]
    return "\n".join(lines)
