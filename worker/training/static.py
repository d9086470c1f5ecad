"""The static CNN as it is trained: normalisation, backbone, and a classifier for each annotation of the data.

Annotators disagree in ways of their own.  So each annotation is learnt by a classifier of its own on the one feature,
and what is served is the weighted mean of their logits, which is a classifier of the same shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_store.manifest import (
    BackboneSpec,
    CompactResNetSpec,
    MobileNetV1DenseSpec,
    MobileNetV1Spec,
    ResNet50CaffeSpec,
)
from model_store.members import FrameHeadSpec
from worker.ensemble.backbones import Backbone, initialise
from worker.ensemble.members import Head
from worker.ensemble.networks import Normalise
from worker.inference.bundles import build_backbone, build_head
from worker.training.recipes import BackboneSettings, Settings

PIXEL_SCALE = 1 / 255
Module = TypeVar("Module", bound=nn.Module)
LABEL = "label"  # the annotation of data that have one


@dataclass(frozen=True)
class PixelBatch:
    """pixels: (N, H, W, C) uint8 or float32 in 0..255.  targets: by annotation (N, K), zero rows count nothing."""

    pixels: Tensor
    targets: dict[str, Tensor]


@dataclass(frozen=True)
class Served:
    """The static CNN as it is served: frozen, in eval mode, on one device."""

    normalise: Normalise
    backbone: Backbone
    head: Head

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.normalise.gain.device


class StaticNet(nn.Module):
    """Member `cnn`.  Pixels (N, H, W, C) -> {annotation: (N, K) logits}.

    annotations: each one's weight in what is served.
    """

    def __init__(self, settings: Settings, labels: int, annotations: Mapping[str, float]) -> None:
        super().__init__()
        self.normalise = Normalise(PIXEL_SCALE, settings.input.mean, settings.input.std)
        channels = 3 if settings.input.colour == "rgb" else 1
        self.backbone = build_backbone(backbone_spec(settings.backbone), channels)
        self.labels = labels
        self.weights = {name: weight / sum(annotations.values()) for name, weight in annotations.items()}
        self.classifiers = nn.ModuleDict({name: nn.Linear(self.backbone.feature_size, labels) for name in annotations})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        feature = self.backbone(self.normalise(pixels))
        with torch.autocast(feature.device.type, enabled=False):
            feature = feature.float()
            return {name: classifier(feature) for name, classifier in self.classifiers.items()}

    @torch.no_grad()
    def served(self) -> Served:
        """The served network: the backbone, with the weighted mean of the classifiers as its head."""
        head = build_head(FrameHeadSpec(), self.backbone.feature_size, self.labels).to(self.normalise.gain.device)
        states = {name: classifier.state_dict() for name, classifier in self.classifiers.items()}
        for key, value in head.state_dict().items():
            parts = [states[name][key.removeprefix("classifier.")] * weight for name, weight in self.weights.items()]
            value.copy_(torch.stack(parts).sum(dim=0))
        return Served(self.normalise, self.backbone, frozen(head))


def frozen(module: Module) -> Module:
    """The same module in eval mode, not to be trained."""
    return module.eval().requires_grad_(False)


def new_static_net(settings: Settings, labels: int, annotations: Mapping[str, float]) -> StaticNet:
    """An untrained network, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        net = StaticNet(settings, labels, annotations)
        initialise(net.backbone)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def backbone_spec(settings: BackboneSettings, beside: float = 0.0) -> BackboneSpec:
    """The manifest's words for the backbone.  beside: share of a teacher that counts beside it, 0 for none."""
    if beside:
        return MobileNetV1DenseSpec(width=settings.width, side=settings.side, share=beside)
    if settings.architecture == "compact_resnet":
        return CompactResNetSpec(stem=settings.stem, widths=settings.widths, blocks=settings.blocks)
    if settings.architecture == "mobilenet_v1":
        return MobileNetV1Spec(width=settings.width, side=settings.side)
    return ResNet50CaffeSpec(width=settings.width, blocks=settings.blocks)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the rows with a target; logits and targets (N, K), a target sums to 1, or to 0 where there is none."""
    losses = -(targets * F.log_softmax(logits.float(), dim=-1)).sum(dim=-1)
    return losses.sum() / targets.sum().clamp(min=1.0)


def static_loss(model: nn.Module, batch: PixelBatch, drawn: Mapping[str, Tensor] | None = None) -> Tensor:
    """Sum over the annotations of their classifiers' cross entropies.

    drawn: (K,) shares of an annotation's labels among what is drawn.  Where they are given the logits are those of
    equally frequent labels.  Source: Menon et al. 2021, Long-tail learning via logit adjustment (arXiv 2007.07314).
    """
    losses = []
    for name, logits in model(batch.pixels).items():
        shift = log_shares(drawn[name]).to(logits.device) if drawn is not None else 0.0
        losses.append(soft_cross_entropy(logits + shift, batch.targets[name]))
    return torch.stack(losses).sum()


def log_shares(shares: Tensor) -> Tensor:
    """Logarithms of label shares (K,); a label that never occurs counts as one in ten thousand."""
    return shares.clamp(min=1e-4).log()


@torch.inference_mode()
def static_probabilities(
    net: StaticNet, batches: Iterable[Tensor], *, half_precision: bool, shares: Tensor | None = None
) -> Tensor:
    """(N, K) float32 probabilities of what is served, on the CPU; batches of (n, H, W, C) crops in order.

    shares: (K,) of the labels, for a network whose logits are those of equally frequent ones.
    """
    device = net.normalise.gain.device
    net.eval()
    head = net.served().head
    found = []
    for crops in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=half_precision):
            feature = net.backbone(net.normalise(crops.to(device, non_blocking=True)))
        logits = head(feature.float()).cpu()
        found.append(torch.softmax(logits if shares is None else logits + log_shares(shares), dim=-1))
    return torch.cat(found)
