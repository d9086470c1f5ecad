"""The temporal members as they are trained: heads on windows of features that never change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from model_store.members import HeadSpec
from worker.ensemble.members import Head
from worker.inference.bundles import build_head
from worker.training.loop import METRIC, rebalanced
from worker.training.metrics import measure
from worker.training.place import Place
from worker.training.recipes import Settings
from worker.training.static import soft_cross_entropy

EVALUATION_BATCH = 2048


@dataclass(frozen=True)
class WindowSet:
    """Windows over the frames of many clips.

    features: (V * N, D) half precision: V views of N frames, one view after the other.  windows: (W, T) int64, frames
    of a window.  targets: (N, K) float32, rows sum to 1, or to 0 where unlabelled.  truth: (N,) int64, -1 unlabelled.
    """

    features: Tensor
    windows: Tensor
    targets: Tensor
    truth: Tensor

    @property
    def centres(self) -> Tensor:
        """(W,) the frame that each window labels."""
        return self.windows[:, self.windows.shape[1] // 2]

    def scored(self) -> WindowSet:
        """The same with only the windows whose centre has a true label."""
        return WindowSet(self.features, self.windows[self.truth[self.centres] >= 0], self.targets, self.truth)


@dataclass(frozen=True)
class WindowBatch:
    """features: (B, T, D) float32.  targets: (B, T, K) float32."""

    features: Tensor
    targets: Tensor


class TemporalTask:
    """Task of a temporal member.  validation: window sets by name; the challenge metric is their mean."""

    def __init__(
        self, head: Head, train: WindowSet, validation: Mapping[str, WindowSet], settings: Settings, place: Place
    ) -> None:
        self.model: nn.Module = head.to(place.device)
        self.train = train
        self.validation = validation
        self.outputs: Literal["all", "centre"] = settings.temporal_outputs
        self.device = place.device
        self.views = len(train.features) // len(train.targets)
        self.size = len(train.windows)
        power = settings.temporal.rebalance
        self.draw_weights = rebalanced(train.targets[train.centres], power) if power else None

    def batches(self, order: list[Tensor], epoch: int, first_step: int) -> Iterator[WindowBatch]:
        view = epoch % self.views * len(self.train.targets)
        for items in order[first_step:]:
            frames = self.train.windows[items]  # (B, T)
            features = self.train.features[frames + view].to(self.device).float()
            yield WindowBatch(features, self.train.targets[frames].to(self.device))

    def loss(self, model: nn.Module, batch: WindowBatch) -> Tensor:
        logits = model(batch.features)  # (B, T, K)
        if self.outputs == "centre":
            centre = batch.features.shape[1] // 2
            return soft_cross_entropy(logits[:, centre], batch.targets[:, centre])
        return soft_cross_entropy(logits.flatten(0, 1), batch.targets.flatten(0, 1))

    def validate(self, model: nn.Module) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for name, data in self.validation.items():
            scored = data.scored()
            probabilities = torch.softmax(centre_logits(model, scored), dim=-1).numpy()
            truth = scored.truth[scored.centres].numpy()
            found = measure(probabilities, truth, [str(k) for k in range(probabilities.shape[1])])
            metrics |= {f"{name}_{key}": found[key] for key in ("accuracy", "macro_f1", METRIC)}
        metrics[METRIC] = float(np.mean([metrics[f"{name}_{METRIC}"] for name in self.validation]))
        return metrics


@torch.inference_mode()
def centre_logits(head: nn.Module, data: WindowSet) -> Tensor:
    """(W, K) float32 logits of a member at every window's centre, on the CPU; a frame head sees that frame alone."""
    head.eval()
    device = next(head.parameters()).device
    single = isinstance(head, Head) and not head.temporal
    centre = data.windows.shape[1] // 2
    found = []
    for windows in torch.split(data.windows, EVALUATION_BATCH):
        seen = windows[:, centre : centre + 1] if single else windows
        logits = head(data.features[seen].to(device).float())
        found.append(logits[:, 0 if single else centre].float().cpu())
    return torch.cat(found)


def new_head(spec: HeadSpec, feature_size: int, labels: int, seed: int) -> Head:
    """An untrained head, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_head(spec, feature_size, labels)
