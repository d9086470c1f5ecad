"""The static CNN as it is trained: normalisation, backbone, its classifier, and auxiliary classifiers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_store.manifest import BackboneSpec, CompactResNetSpec, MobileNetV1Spec, ResNet50CaffeSpec
from model_store.members import FrameHeadSpec
from worker.ensemble.backbones import initialise
from worker.ensemble.networks import Normalise
from worker.inference.bundles import build_backbone, build_head
from worker.training.recipes import BackboneSettings, Settings

PIXEL_SCALE = 1 / 255
MAIN = "label"


@dataclass(frozen=True)
class PixelBatch:
    """pixels: (N, H, W, C) uint8 or float32 in 0..255.  targets: by classifier (N, K), zero rows count nothing."""

    pixels: Tensor
    targets: dict[str, Tensor]


class StaticNet(nn.Module):
    """Member `cnn`, with classifiers that only training uses.  Pixels (N, H, W, C) -> {classifier: (N, K) logits}."""

    def __init__(self, settings: Settings, labels: int, auxiliary: Iterable[str] = ()) -> None:
        super().__init__()
        self.normalise = Normalise(PIXEL_SCALE, settings.input.mean, settings.input.std)
        channels = 3 if settings.input.colour == "rgb" else 1
        self.backbone = build_backbone(backbone_spec(settings.backbone), channels)
        self.head = build_head(FrameHeadSpec(), self.backbone.feature_size, labels)
        self.auxiliary = nn.ModuleDict({name: nn.Linear(self.backbone.feature_size, labels) for name in auxiliary})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        feature = self.backbone(self.normalise(pixels))
        with torch.autocast(feature.device.type, enabled=False):
            feature = feature.float()
            return {MAIN: self.head(feature)} | {name: head(feature) for name, head in self.auxiliary.items()}


def new_static_net(settings: Settings, labels: int, auxiliary: Iterable[str] = ()) -> StaticNet:
    """An untrained network, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        net = StaticNet(settings, labels, auxiliary)
        initialise(net.backbone)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def backbone_spec(settings: BackboneSettings) -> BackboneSpec:
    """The manifest's words for the backbone."""
    if settings.architecture == "compact_resnet":
        return CompactResNetSpec(stem=settings.stem, widths=settings.widths, blocks=settings.blocks)
    if settings.architecture == "mobilenet_v1":
        return MobileNetV1Spec(width=settings.width, side=settings.side)
    return ResNet50CaffeSpec(width=settings.width, blocks=settings.blocks)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the rows with a target; logits and targets (N, K), a target sums to 1, or to 0 where there is none."""
    losses = -(targets * F.log_softmax(logits.float(), dim=-1)).sum(dim=-1)
    return losses.sum() / targets.sum().clamp(min=1.0)


def static_loss(model: nn.Module, batch: PixelBatch, auxiliary: float) -> Tensor:
    """Cross entropy of the classifier plus `auxiliary` times that of each auxiliary one."""
    logits = model(batch.pixels)
    loss = soft_cross_entropy(logits[MAIN], batch.targets[MAIN])
    for name in sorted(batch.targets.keys() - {MAIN}):
        loss = loss + auxiliary * soft_cross_entropy(logits[name], batch.targets[name])
    return loss


@torch.inference_mode()
def static_probabilities(net: StaticNet, batches: Iterable[Tensor], *, half_precision: bool) -> Tensor:
    """(N, K) float32 probabilities of the classifier on the CPU; batches of (n, H, W, C) crops in order."""
    device = net.normalise.gain.device
    net.eval()
    found = []
    for crops in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=half_precision):
            logits = net(crops.to(device, non_blocking=True))[MAIN]
        found.append(torch.softmax(logits.float(), dim=-1).cpu())
    return torch.cat(found)
