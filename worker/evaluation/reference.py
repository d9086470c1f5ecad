"""The published way to label a frame, in plain torch: its whole window through every member, for each frame anew."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from model_store.bundle import find_bundle, load_bundle
from worker.core.records import Floats, Image
from worker.ensemble.fusion import fuse_at
from worker.inference.bundles import build_ensemble


def rate(
    bundle: str, clip: Sequence[Image], positions: Sequence[int], device: str, threads: int
) -> tuple[Floats, float, int]:
    """Fused probabilities (P, K) of these frames of a clip of crops, frames a second, and the number of backbones."""
    torch.set_num_threads(threads)
    ensemble = build_ensemble(load_bundle(find_bundle(bundle)))
    for module in ensemble.modules():
        module.to(device)
    half, last = ensemble.window // 2, len(clip) - 1
    weights = np.array([member.weight for member in ensemble.members], np.float32)
    fused = []
    started = time.perf_counter()
    for position in positions:
        window = [clip[min(max(p, 0), last)] for p in range(position - half, position + half + 1)]
        found = ensemble.window_probabilities(torch.from_numpy(np.stack(window)).to(device))
        stacked = np.stack([values.cpu().numpy() for values in found.values()])
        fused.append(fuse_at(stacked, weights, ensemble.prior, None)[0])
    return np.stack(fused), len(positions) / (time.perf_counter() - started), len(ensemble.backbones)
