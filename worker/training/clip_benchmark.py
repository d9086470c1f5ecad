"""Measure what the temporal members are for, on clips made from labelled stills.

    python -m worker.training.clip_benchmark --bundle default --data ferplus_valid.npz [--json]

Three figures: macro-F1 over clips with a quarter of the frames damaged, ensemble against its own static member; frames
that the ensemble needs to follow a change of label; label changes on clips in which nothing happens but camera noise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from model_store.bundle import find_bundle, load_bundle
from model_store.manifest import Measurement
from worker.crops import CropSpec, crop_whole
from worker.ensemble.networks import Ensemble
from worker.inference.bundles import build_ensemble
from worker.inference.specs import crop_spec
from worker.training.clips import Plan, plan_clip, render_clip, truth_of
from worker.training.evaluate import LabelledClips, probabilities
from worker.training.journal import Journal
from worker.training.metrics import measure
from worker.training.recipes import ClipSettings
from worker.training.stills import LABELS, Stills, read_stills
from worker.training.windows import centred_windows, laid_end_to_end

FRAMES = 25
CAMERA_NOISE = 2.0  # grey levels
BENCHMARK_SEED = 7
FOLLOWED_WITHIN = 5  # frames
DAMAGED = ClipSettings(frames=FRAMES, change=0.0, damaged=1.0, damage_rate=0.25)
CHANGING = ClipSettings(frames=FRAMES, change=1.0, damaged=0.0)

Array = np.ndarray


def damaged_clips(ensemble: Ensemble, crop: CropSpec, stills: Stills, clips: int, seed: int) -> dict[str, float]:
    """Macro-F1 and accuracy over all frames of clips whose label never changes, a quarter of their frames damaged."""
    plans, frames = _drawn(stills, clips, DAMAGED, seed)
    fused, members = _labelled(ensemble, crop, frames)
    truth = np.concatenate([truth_of(plan, stills.ferplus) for plan in plans])
    found = {"ensemble": measure(fused, truth, LABELS), "cnn": measure(members["cnn"], truth, LABELS)}
    result = {f"{who}_{key}": value[key] for who, value in found.items() for key in ("macro_f1", "accuracy")}
    result["macro_f1_gain"] = result["ensemble_macro_f1"] - result["cnn_macro_f1"]
    result["damaged_share"] = float(np.mean([plan.damaged.mean() for plan in plans]))
    return result


def changing_clips(ensemble: Ensemble, crop: CropSpec, stills: Stills, clips: int, seed: int) -> dict[str, float]:
    """Frames between the middle of a change and the first one with the new label, and the one from which it stays.

    Counted on clips whose two ends the ensemble labels with one label each, other ones: elsewhere there is no change
    to follow.
    """
    plans, frames = _drawn(stills, clips, CHANGING, seed)
    fused, _ = _labelled(ensemble, crop, frames)
    delays, settled = [], []
    for plan, labels in zip(plans, fused.argmax(axis=1).reshape(len(plans), FRAMES), strict=True):
        before, after = labels[0], labels[-1]
        if before == after:
            continue
        middle = int(np.argmax(plan.share >= 0.5))
        delays.append(int(np.argmax(labels[middle:] == after)))
        settled.append(int(np.flatnonzero(labels != after)[-1]) + 1 - middle)
    if not delays:
        return {"clips": 0.0}
    found = np.array(delays)
    return {
        "clips": float(len(found)),
        "median_frames": float(np.median(found)),
        "p95_frames": float(np.percentile(found, 95)),
        "followed_within_5": float((found <= FOLLOWED_WITHIN).mean()),
        "settled_within_5": float((np.array(settled) <= FOLLOWED_WITHIN).mean()),
    }


def still_clips(ensemble: Ensemble, crop: CropSpec, stills: Stills, clips: int, seed: int) -> dict[str, float]:
    """Label changes on clips of one still with camera noise, for the ensemble and for its static member."""
    rows = _rows(stills, clips)
    rng = np.random.default_rng((seed, 3))
    shown = np.repeat(stills.images[rows], FRAMES, axis=0).astype(np.float32)
    noisy = np.clip(shown + rng.normal(0, CAMERA_NOISE, shown.shape), 0, 255).round().astype(np.uint8)
    fused, members = _labelled(ensemble, crop, noisy)

    def changes(found: Array) -> Array:
        labels = found.argmax(axis=1).reshape(len(rows), FRAMES)
        return np.asarray((np.diff(labels, axis=1) != 0).sum(axis=1))

    return {
        "ensemble_changes_per_clip": float(changes(fused).mean()),
        "cnn_changes_per_clip": float(changes(members["cnn"]).mean()),
        "steady_clips": float((changes(fused) == 0).mean()),
        "cnn_steady_clips": float((changes(members["cnn"]) == 0).mean()),
    }


def benchmark(
    bundle: str,
    data: Path,
    clips: int,
    seed: int,
    device: torch.device = torch.device("cpu"),  # noqa: B008
) -> dict[str, Any]:
    """All three figures of a bundle with the seven labels, computed on the device."""
    loaded = load_bundle(find_bundle(bundle))
    ensemble, crop = build_ensemble(loaded), crop_spec(loaded.manifest.input)
    for module in ensemble.modules():
        module.to(device)
    stills = read_stills(data)
    return {
        "bundle": f"{loaded.manifest.name} {loaded.manifest.version}",
        "data": data.name,
        "clips": clips,
        "damaged": damaged_clips(ensemble, crop, stills, clips, seed),
        "changing": changing_clips(ensemble, crop, stills, clips, seed),
        "still": still_clips(ensemble, crop, stills, clips, seed),
    }


def as_measurements(found: dict[str, Any]) -> list[Measurement]:
    """The figures of `benchmark` as a manifest keeps them."""
    command = (
        f"python -m worker.training.clip_benchmark --bundle {found['bundle'].split()[0]} --data {found['data']} "
        f"--clips {found['clips']}"
    )
    damaged, still = found["damaged"], found["still"]
    keys = ("macro_f1", "accuracy")
    figures: dict[str, tuple[dict[str, float], dict[str, dict[str, float]]]] = {
        "clips with a quarter of the frames damaged": (
            {key: round(damaged[f"ensemble_{key}"], 4) for key in keys},
            {"cnn": {key: round(damaged[f"cnn_{key}"], 4) for key in keys}},
        ),
        "clips in which the label changes": (
            {key: round(value, 4) for key, value in found["changing"].items() if key != "clips"},
            {},
        ),
        "clips of one still with camera noise": (
            {"changes_per_clip": round(still["ensemble_changes_per_clip"], 4)},
            {"cnn": {"changes_per_clip": round(still["cnn_changes_per_clip"], 4)}},
        ),
    }
    data = f"clips of {FRAMES} frames made from {found['data']} (validation)"
    return [
        Measurement(data=data, labels=labels, command=command, ensemble=ensemble, members=members)
        for labels, (ensemble, members) in figures.items()
        if ensemble
    ]


def _rows(stills: Stills, clips: int) -> Array:
    labelled = np.flatnonzero(stills.ferplus >= 0)
    return np.asarray(labelled[np.linspace(0, len(labelled) - 1, min(clips, len(labelled))).astype(int)])


def _drawn(stills: Stills, clips: int, settings: ClipSettings, seed: int) -> tuple[list[Plan], Array]:
    """Plans by the stills' own rows, and all frames (F, H, W) uint8."""
    known = np.flatnonzero(stills.ferplus >= 0)
    places = {int(row): place for place, row in enumerate(known)}
    labels, images = stills.ferplus[known], stills.images[known]
    plans, frames = [], []
    for k, row in enumerate(_rows(stills, clips)):
        rng = np.random.default_rng((seed, int(settings.change), k))
        plan = plan_clip(places[int(row)], labels, settings, rng)
        frames.append(render_clip(images, plan, settings, rng))
        plans.append(replace(plan, stills=known[plan.stills]))
    return plans, np.concatenate(frames)


def _labelled(ensemble: Ensemble, crop: CropSpec, frames: Array) -> tuple[Array, dict[str, Array]]:
    def crops() -> Iterator[Tensor]:
        for start in range(0, len(frames), 256):
            colour = np.repeat(frames[start : start + 256, ..., None], 3, axis=3)
            yield torch.from_numpy(np.stack([crop_whole(image, crop) for image in colour]))

    clips = len(frames) // FRAMES
    windows = laid_end_to_end([centred_windows(FRAMES, ensemble.window)] * clips, [FRAMES] * clips)
    data = LabelledClips("clips", crops, len(frames), torch.from_numpy(windows), {})
    return probabilities(ensemble, data, Journal(None, shown=False))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Measure a bundle on clips made from labelled stills.")
    parser.add_argument("--bundle", default="default", help="name or folder")
    parser.add_argument("--data", type=Path, required=True, help="stills .npz")
    parser.add_argument("--clips", type=int, default=600, help="of each kind")
    parser.add_argument("--seed", type=int, default=BENCHMARK_SEED)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    found = benchmark(args.bundle, args.data, args.clips, args.seed)
    if args.json:
        print(json.dumps(found))
        return
    print(f"{found['bundle']} on {found['data']}, {found['clips']} clips of {FRAMES} frames each")
    for name in ("damaged", "changing", "still"):
        for key, value in found[name].items():
            print(f"  {name:10}{key:28}{value:8.3f}")


if __name__ == "__main__":
    main()
