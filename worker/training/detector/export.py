"""Write what was trained as a stored detector: weights, manifest, card."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from torch import Tensor

from model_store.detector import (
    DetectorManifest,
    DetectorMeasurement,
    DetectorProvenance,
    new_detector,
    store_weights,
    write_manifest,
)
from worker.detectors import manifest_sizes
from worker.training.detector.settings import DetectorSettings, as_json

LICENCE = "MIT for the weights; read the terms of the training data before commercial use"
INTENDED_USE = (
    "Finding the faces that Mien labels, with the landmarks their crops are aligned by. It tells where a face is, not "
    "whose. Not for identifying, counting or following people without their knowledge."
)
DATA = (
    "Scenes composed while training: 13,049 press portraits (muxspace/facial_expressions) and small faces of FER2013 "
    "pasted over 714 pictures without a face (ImageNet samples), and 286 pictures with people; boxes and landmarks are "
    "OpenCV's YuNet's, most of them its answers for the very scene. No labels made by people, no video."
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


def write_detector(
    folder: Path,
    state: Mapping[str, Tensor],
    settings: DetectorSettings,
    files: dict[str, str],
    commit: str | None,
    names: tuple[str, str],
    command: str,
    measured: Mapping[str, float],
    licence: str | None,
    notes: str = "",
) -> DetectorManifest:
    """Write a detector to `folder`.  names: its own and its version.  measured: on validation data, with the threshold
    that serves among them.

    Raises: BundleError if the folder holds something else.
    """
    # The count of batches is the trainer's, not the network's; the running statistics stay.
    tensors = {
        key: value.detach().cpu().float().numpy() for key, value in state.items() if "num_batches_tracked" not in key
    }
    provenance = DetectorProvenance(
        data=DATA,
        data_sha256=files,
        data_terms=TERMS,
        command=command,
        settings=as_json(settings),
        commit=commit,
        seed=settings.seed,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=notes,
    )
    values = {name: round(value, 4) for name, value in measured.items()}
    with new_detector(folder) as path:
        manifest = DetectorManifest(
            name=names[0],
            version=names[1],
            network=manifest_sizes(settings.sizes),
            weights=store_weights(path, tensors),
            min_score=round(measured["threshold"], 4),
            small_bonus=settings.small_bonus,
            provenance=provenance,
            measurements=(
                DetectorMeasurement(
                    data="held-out portraits, pictures and backgrounds", command=command, values=values
                ),
            ),
            licence=licence or LICENCE,
            intended_use=INTENDED_USE,
        )
        write_manifest(path, manifest, card(manifest))
    return manifest


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
