"""A teacher: the expression network of the npm package @vladmandic/face-api, for what stills of 48 pixels cannot teach.

    npm pack @vladmandic/face-api@1.7.15

Its answers on every face are targets, and on sharp crops it counts itself: beside the backbone that was trained, its
features become part of the bundle's.  Its weights, 0.3 million in 8 bits, are read out of the package as data; nothing
of the package is run.  Licence of package and weights: MIT, Copyright (c) Vladimir Mandic; the network and its training
are Vincent Mühler's face-api.js (MIT).
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_store.members import FrameHeadSpec
from worker.crops import CropSpec, Image
from worker.ensemble.backbones import DENSE_SIDE, DenseFaces, MobileNetV1, MobileNetV1Dense, turned_and_lowered
from worker.ensemble.networks import Normalise
from worker.inference.bundles import build_head
from worker.training.errors import DataError
from worker.training.features import compute_features
from worker.training.fingerprint import sha256_of
from worker.training.recipes import InputSettings
from worker.training.static import PIXEL_SCALE, Served, frozen

PACKAGE = "@vladmandic/face-api@1.7.15"
PACKAGE_SHA256 = "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031"
MODEL = "package/model/face_expression_model"
# What was taken from red, green and blue in 0..255, before they were divided by 255.
CHANNEL_MEANS = (122.782, 117.001, 104.298)
# Its outputs are neutral, happy, sad, angry, fearful, disgusted, surprised.
OUTPUTS_OF_LABELS = (0, 3, 5, 4, 1, 2, 6)
BATCH = 128
GATE_STEPS, GATE_RATE, GATE_DECAY, GATE_SPREAD = 300, 0.01, 3e-3, 1e-3


@dataclass(frozen=True)
class Teacher:
    """The network for grey crops in our normalisation, and its last layer in the order of `stills.LABELS`."""

    normalise: Normalise
    features: DenseFaces
    head: nn.Linear

    @torch.inference_mode()
    def answers(self, crops: Image) -> Tensor:
        """(N, size, size, 1) uint8 grey -> (N, 7) probabilities."""
        found = []
        for pixels in torch.split(torch.from_numpy(crops), BATCH):
            features = self.features(turned_and_lowered(self.normalise(pixels)))
            found.append(torch.softmax(self.head(features), dim=1))
        return torch.cat(found)


def crops_for(spec: CropSpec) -> CropSpec:
    """The teacher's crops, for a bundle whose crops have `spec`."""
    return CropSpec(DENSE_SIDE, "grey", spec.landmarks)


def with_teacher(served: Served, teacher: Teacher, share: float, crops: Tensor, sharp: Tensor) -> Served:
    """The teacher beside the trained network, its logits in the head's where a crop is sharp.

    share: of the teacher's logits on the sharpest.  crops: (N, size, size, 1) to learn from which are sharp, (N,) bool.

    Raises: DataError if the trained backbone is no `MobileNetV1`.
    """
    own, device = served.backbone, served.device
    if not isinstance(own, MobileNetV1):
        raise DataError("a teacher can count beside a mobilenet_v1 only: set stills.teacher_beside=0")
    both = MobileNetV1Dense(1, own.stem.out_channels, own.side, share)
    both.mobilenet.load_state_dict(own.state_dict())
    both.dense.load_state_dict(teacher.features.state_dict())
    features = compute_features(
        own, served.normalise, iter(torch.split(crops, BATCH)), len(crops), half_precision=False
    )
    weight, bias = fit_gate(features.float(), sharp)
    both.gate.load_state_dict({"weight": weight[None], "bias": bias})
    plain, his = {key: value.cpu() for key, value in served.head.state_dict().items()}, teacher.head
    columns = [plain["classifier.weight"], his.weight, (his.bias - plain["classifier.bias"])[:, None]]
    head = build_head(FrameHeadSpec(), both.feature_size, his.out_features)
    head.load_state_dict({"classifier.weight": torch.cat(columns, dim=1), "classifier.bias": plain["classifier.bias"]})
    return Served(served.normalise, frozen(both.to(device)), frozen(head.to(device)))


def fit_gate(features: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor]:
    """Logistic regression of what is sharp: features (N, D), sharp (N,) bool -> weight (D,) and bias (1,)."""
    mean, spread = features.mean(dim=0), features.std(dim=0) + GATE_SPREAD
    scaled, truth = (features - mean) / spread, sharp.float()
    weight, bias = torch.zeros(features.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([weight, bias], lr=GATE_RATE)
    for _ in range(GATE_STEPS):
        loss = F.binary_cross_entropy_with_logits(scaled @ weight + bias, truth) + GATE_DECAY * weight.square().sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    weight = weight.detach() / spread
    return weight, bias.detach() - weight @ mean


def read_teacher(package: Path, settings: InputSettings) -> Teacher:
    """Read the weights out of the package, a .tgz as npm packs it, for grey crops normalised as `settings` say.

    Raises: DataError if it is another file than the pinned version.
    """
    if not package.is_file() or sha256_of(package) != PACKAGE_SHA256:
        raise DataError(f"{package} is not {PACKAGE} as npm packs it: make it by `npm pack {PACKAGE}`")
    if settings.colour != "grey":
        raise DataError("a teacher looks at grey crops only: input.colour=grey, or stills.teacher=0")
    weights = _weights(package)
    features = DenseFaces(1)
    for k, block in enumerate(features.blocks):
        for conv, name in _convolutions(block, f"dense{k}"):
            # TensorFlow's (H, W, in, out), or (H, W, in, 1) where each channel is on its own, turned by 180 degrees.
            single = conv.groups > 1
            kernel = weights[name].permute(2, 3, 0, 1) if single else weights[name].permute(3, 2, 0, 1)
            bias = None if conv.bias is None else weights[f"{name.rpartition('/')[0]}/bias"]
            if name == "dense0/conv0/filters":
                kernel, bias = _for_grey(kernel, weights["dense0/conv0/bias"], settings)
            conv.weight.data.copy_(kernel.flip((2, 3)))
            if conv.bias is not None and bias is not None:
                conv.bias.data.copy_(bias)
    head = nn.Linear(features.feature_size, len(OUTPUTS_OF_LABELS))
    head.weight.data.copy_(weights["fc/weights"].T[list(OUTPUTS_OF_LABELS)])
    head.bias.data.copy_(weights["fc/bias"][list(OUTPUTS_OF_LABELS)])
    normalise = Normalise(PIXEL_SCALE, settings.mean, settings.std)
    return Teacher(normalise, frozen(features), frozen(head))


def _convolutions(block: nn.Module, name: str) -> Iterator[tuple[nn.Conv2d, str]]:
    """A block's convolutions with the names of their kernels in the package."""
    first, units = block.get_submodule("first"), block.get_submodule("units")
    for k, unit in enumerate([first, *units.children()]):
        if isinstance(unit, nn.Conv2d):
            yield unit, f"{name}/conv{k}/filters"
            continue
        for part in ("depthwise", "pointwise"):
            conv = unit.get_submodule(part)
            if isinstance(conv, nn.Conv2d):
                yield conv, f"{name}/conv{k}/{part}_filter"


def _for_grey(kernel: Tensor, bias: Tensor, settings: InputSettings) -> tuple[Tensor, Tensor]:
    """The first kernel (out, 3, 3, 3) and bias for one grey channel in our normalisation.

    What is beyond the picture is the mean grey instead of the mean colour: it changes the outermost pixels a little.
    """
    offsets = settings.mean[0] - torch.tensor(CHANNEL_MEANS) / 255
    moved = bias + (kernel * offsets.view(1, 3, 1, 1)).sum(dim=(1, 2, 3))
    return kernel.sum(dim=1, keepdim=True) * settings.std[0], moved


def _weights(package: Path) -> dict[str, Tensor]:
    with tarfile.open(package) as archive:
        listed = json.loads(_content(archive, f"{MODEL}-weights_manifest.json"))
        stored = _content(archive, f"{MODEL}.bin")
    weights, start = {}, 0
    for entry in (entry for group in listed for entry in group["weights"]):
        packed = entry.get("quantization", {"dtype": entry["dtype"], "scale": 1.0, "min": 0.0})
        dtype, count = np.dtype(packed["dtype"]), int(np.prod(entry["shape"]))
        values = np.frombuffer(stored, dtype, count, start).reshape(entry["shape"]).astype(np.float32)
        weights[entry["name"]] = torch.from_numpy(values * np.float32(packed["scale"]) + np.float32(packed["min"]))
        start += count * dtype.itemsize
    return weights


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise DataError(f"the package lacks {name}")
    return file.read()
