"""Measure a bundle on labelled data, through the networks, windows and fusion that serving uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worker.ensemble.fusion import fuse_at
from worker.ensemble.networks import Ensemble
from worker.training.features import compute_features
from worker.training.journal import Journal
from worker.training.metrics import headline, measure
from worker.training.temporal import WindowSet, centre_logits

Array = np.ndarray


@dataclass(frozen=True)
class LabelledClips:
    """Data to measure on.

    crops: makes the batches (n, H, W, C) uint8 of all `frames` crops in order.  windows: (W, T) int64 into them.
    truths: by the annotation's name, (W,) int64 label of each window's centre, -1 where it does not count.
    """

    name: str
    crops: Callable[[], Iterable[Tensor]]
    frames: int
    windows: Tensor
    truths: dict[str, Array]


def evaluate(ensemble: Ensemble, data: LabelledClips, journal: Journal, prior: float | None = None) -> dict[str, Any]:
    """What `evaluate --json` prints.  The ensemble's networks run in float32 on the device where they are.

    prior: what the scores are given at; None for the bundle's default.
    """
    fused, members = probabilities(ensemble, data, journal, prior)
    results = {}
    for name, truth in data.truths.items():
        rows = truth >= 0
        if not rows.any():
            continue
        results[name] = {
            "n": int(rows.sum()),
            "ensemble": measure(fused[rows], truth[rows], ensemble.labels),
            "members": {member: measure(p[rows], truth[rows], ensemble.labels) for member, p in members.items()},
        }
    return {"data": data.name, "results": results}


def probabilities(
    ensemble: Ensemble, data: LabelledClips, journal: Journal, prior: float | None = None
) -> tuple[Array, dict[str, Array]]:
    """(W, K) fused probabilities of every window's centre, and each member's."""
    features = {}
    for key, backbone in ensemble.backbones.items():
        with journal.bar("features", data.frames) as bar:
            features[key] = compute_features(
                backbone,
                ensemble.normalise,
                data.crops(),
                data.frames,
                half_precision=False,
                dtype=torch.float32,
                bar=bar,
            )
    nothing = torch.empty(0)
    found = []
    for member in ensemble.members:
        logits = centre_logits(member.head, WindowSet(features[member.backbone], data.windows, nothing, nothing))
        found.append(torch.softmax(logits / member.temperature, dim=-1))
    weights = np.array([member.weight for member in ensemble.members], np.float32)
    fused, own = fuse_at(torch.stack(found).numpy(), weights, ensemble.prior, prior)
    return fused, {m.name: p for m, p in zip(ensemble.members, own, strict=True)}


def summary(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The four single numbers of the ensemble and of each member, by annotation."""
    return {
        name: {
            "n": result["n"],
            "ensemble": headline(result["ensemble"]),
            "members": {member: headline(found) for member, found in result["members"].items()},
        }
        for name, result in report["results"].items()
    }
