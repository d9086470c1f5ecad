"""Networks made fast for inference compute what they computed before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.core.folding import for_inference
from worker.ensemble.backbones import Backbone, CompactResNet, MobileNetV1, ResNet50Caffe

TOLERANCE = 2e-6


class Awkward(nn.Module):
    """Not fused as a residual block: a sum that is used again, one of two shapes, one with the input."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.spread = nn.Conv2d(8, 8, 1)
        self.same = nn.Conv2d(4, 4, 1)
        self.skip = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.first(images))
        y = self.norm(self.second(x)) + self.skip(x)  # x is read again below
        z = F.relu(self.spread(F.adaptive_avg_pool2d(y, 1)) + y)  # (N, 8, 1, 1) and (N, 8, H, W)
        own = images + self.same(images)
        return torch.cat((x, F.relu(y), y, z, own), dim=1)


def filled(network: nn.Module) -> nn.Module:
    """The network with batch-norms that do something, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
                nn.init.normal_(module.running_mean if module.running_mean is not None else torch.empty(1))
                nn.init.uniform_(module.running_var if module.running_var is not None else torch.empty(1), 0.5, 2)
    return network.eval().requires_grad_(False)


def images(count: int, channels: int, size: int) -> Tensor:
    """Seeded noise (N, C, size, size) float32, channels-last."""
    noise = torch.rand((count, channels, size, size), generator=torch.Generator().manual_seed(count))
    return noise.to(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("make", "channels", "size"),
    [
        (lambda: CompactResNet(1, 8, (16, 24), (1, 2)), 1, 24),
        (lambda: ResNet50Caffe(3, width=8, blocks=(2, 1, 2, 1)), 3, 64),
        (lambda: MobileNetV1(1, width=4, side=64), 1, 24),
        (Awkward, 4, 12),
    ],
)
def test_equal_to_the_plain_network(make: Callable[[], nn.Module], channels: int, size: int) -> None:
    """Same numbers for the batch it was made for and for others, again and again; the input is left as it was."""
    network = filled(make())
    fast = for_inference(network, images(4, channels, size))
    for count in (4, 1, 7, 4):
        given = images(count, channels, size)
        before = given.clone()
        expected = network(given)
        torch.testing.assert_close(fast(given), expected, atol=TOLERANCE * float(expected.abs().max()), rtol=TOLERANCE)
        assert torch.equal(given, before)


@pytest.mark.parametrize(
    ("backbone", "channels"),
    [
        (CompactResNet(1, 8, (16, 24), (1, 2)), 1),
        (ResNet50Caffe(3, width=8, blocks=(3, 4, 6, 3)), 3),
        (MobileNetV1(1, width=4, side=64), 1),
    ],
)
def test_no_batch_norm_is_left(backbone: Backbone, channels: int) -> None:
    """Each is part of the convolution before it."""
    fast = for_inference(filled(backbone), images(2, channels, 64))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
