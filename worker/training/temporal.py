"""The temporal members as they are trained: heads on windows of features that never change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from model_store.members import HeadSpec
from worker.ensemble.members import Head, TransformerHead
from worker.inference.bundles import build_head
from worker.training.errors import TrainingError
from worker.training.loop import METRIC, rebalanced
from worker.training.metrics import measure
from worker.training.place import Place, generator
from worker.training.recipes import Settings
from worker.training.static import log_shares, soft_cross_entropy

EVALUATION_BATCH = 2048
# Of `set_to_mean`: how large the logits are beside the positions, and what is left of the other random weights.
MEAN_LOGITS, MEAN_REST, MEAN_WINDOWS = 0.2, 0.1, 2000


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
    """Task of a temporal member.  validation: window sets by name; the challenge metric is their mean.

    shares: (K,) of the labels in the data as they come, which validation is measured at.
    """

    def __init__(
        self,
        head: Head,
        train: WindowSet,
        validation: Mapping[str, WindowSet],
        shares: Tensor,
        settings: Settings,
        place: Place,
    ) -> None:
        self.model: nn.Module = head.to(place.device)
        self.train = train
        self.validation = validation
        self.outputs: Literal["all", "centre"] = settings.temporal_outputs
        self.device = place.device
        self.views = len(train.features) // len(train.targets)
        self.size = len(train.windows)
        power = settings.temporal.rebalance
        centres = train.targets[train.centres]
        self.draw_weights = rebalanced(centres, power) if power else None
        self.drawn = self.natural = torch.zeros(centres.shape[1])
        if settings.balanced:
            drawn = centres if self.draw_weights is None else centres * self.draw_weights[:, None]
            self.drawn, self.natural = log_shares(drawn.sum(dim=0) / drawn.sum()), log_shares(shares)

    def batches(self, order: list[Tensor], epoch: int, first_step: int) -> Iterator[WindowBatch]:
        view = epoch % self.views * len(self.train.targets)
        for items in order[first_step:]:
            frames = self.train.windows[items]  # (B, T)
            features = self.train.features[frames + view].to(self.device).float()
            yield WindowBatch(features, self.train.targets[frames].to(self.device))

    def loss(self, model: nn.Module, batch: WindowBatch) -> Tensor:
        logits = model(batch.features) + self.drawn.to(self.device)  # (B, T, K)
        if self.outputs == "centre":
            centre = batch.features.shape[1] // 2
            return soft_cross_entropy(logits[:, centre], batch.targets[:, centre])
        return soft_cross_entropy(logits.flatten(0, 1), batch.targets.flatten(0, 1))

    def validate(self, model: nn.Module) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for name, data in self.validation.items():
            scored = data.scored()
            probabilities = torch.softmax(centre_logits(model, scored) + self.natural, dim=-1).numpy()
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


@torch.no_grad()
def set_to_mean(head: TransformerHead, static: Head, features: Tensor, window: int) -> None:
    """Let a Transformer compute the mean of the window's static logits, without any training.

    The first dimensions of its embedding are the static logits; the first block's attention, nearly the same to all
    frames, adds their mean to the next dimensions; the classifier is fitted to that mean.
    features: (N, D) frames to fit it on, in any order.

    Raises: TrainingError if the embedding has no room for two times the labels.
    """
    plain, labels = static.state_dict(), head.classifier.out_features
    if head.embed.out_features < 2 * labels:
        raise TrainingError(
            f"heads.embedding must be {2 * labels} at least, twice the labels, or transformer_means=false"
        )
    for name, weight in head.named_parameters():
        if name.startswith("blocks") and weight.ndim > 1:
            weight.mul_(MEAN_REST)
    head.embed.weight[:labels] = plain["classifier.weight"] * MEAN_LOGITS
    head.embed.bias[:labels] = plain["classifier.bias"] * MEAN_LOGITS
    head.embed.weight[labels : 2 * labels], head.embed.bias[labels : 2 * labels] = 0, 0
    first = head.get_submodule("blocks.0.attn")
    size, places = head.embed.out_features, torch.arange(labels)
    first.get_parameter("qkv.weight")[2 * size + places, places] = 1
    first.get_parameter("proj.weight")[labels + places, places] = 1
    windows = torch.randint(len(features), (MEAN_WINDOWS, window), generator=generator(0, labels, window))
    seen = features[windows].float()
    inputs: list[Tensor] = []
    hook = head.classifier.register_forward_pre_hook(lambda _, given: inputs.append(given[0][:, window // 2]))
    head(seen)
    hook.remove()
    ones = torch.ones(len(windows), 1)
    fitted = torch.linalg.lstsq(torch.cat([inputs[0], ones], dim=1), static(seen).mean(dim=1), driver="gelsd").solution
    head.classifier.weight.copy_(fitted[:-1].T)
    head.classifier.bias.copy_(fitted[-1])


def new_head(spec: HeadSpec, feature_size: int, labels: int, seed: int) -> Head:
    """An untrained head, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_head(spec, feature_size, labels)
