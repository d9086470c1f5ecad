"""Features of a frozen backbone, computed once and kept in half precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from worker.core.folding import for_inference
from worker.ensemble.backbones import Backbone
from worker.ensemble.conversion import on_cpu
from worker.ensemble.passes import batch_sizes
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

    batches: crops (N, H, W, C), uint8 or float32 in 0..255, in order.  As in serving, OpenVINO computes on a CPU, and a
    folded copy of the backbone where that is on a GPU, in batches as large as are good for the device.
    """
    device = next(backbone.parameters()).device
    precision = torch.bfloat16 if half_precision else torch.float32
    ready: Callable[[Tensor], Tensor] | None = None
    # Made outside of inference mode, or else it could not be trained on.
    features = torch.empty((count, backbone.feature_size), dtype=dtype)
    done = 0
    for batch in batches:
        with torch.inference_mode():
            for crops in torch.split(batch, batch_sizes(device)[-1]):
                images = normalise(crops.to(device, non_blocking=True))
                if ready is None and device.type == "cpu":
                    ready = on_cpu(backbone, images, "bf16" if half_precision else "fp32")
                elif ready is None:
                    ready = for_inference(backbone, images.to(precision))
                features[done : done + len(crops)] = ready(images.to(precision)).to("cpu", dtype)
                done += len(crops)
        if bar is not None:
            bar.advance(len(batch))
    if done != count:
        raise ValueError(f"expected {count} crops, got {done}")
    return features
