"""Features of a frozen backbone, computed once and kept in half precision."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from worker.ensemble.backbones import Backbone
from worker.training.journal import Bar

FEATURE_BATCH = 256


def compute_features(
    backbone: Backbone,
    normalise: nn.Module,
    batches: Iterable[Tensor],
    count: int,
    *,
    half_precision: bool,
    dtype: torch.dtype = torch.float16,
    bar: Bar | None = None,
) -> Tensor:
    """Features of `count` crops, (count, D) in `dtype` on the CPU.

    batches: crops (N, H, W, C), uint8 or float32 in 0..255, in order.  The backbone runs in eval mode, where it is.
    """
    backbone.eval()
    device = next(backbone.parameters()).device
    # Made outside of inference mode, or else it could not be trained on.
    features = torch.empty((count, backbone.feature_size), dtype=dtype)
    done = 0
    for crops in batches:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half_precision):
            found = backbone(normalise(crops.to(device, non_blocking=True)))
            features[done : done + len(crops)] = found.to("cpu", dtype)
        done += len(crops)
        if bar is not None:
            bar.advance(len(crops))
    if done != count:
        raise ValueError(f"expected {count} crops, got {done}")
    return features
