"""Backbones compute what they say they do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from worker.ensemble.backbones import MobileNetV1, initialise, turned_and_enlarged


def test_training_computes_what_serving_does() -> None:
    """Strided depthwise convolutions take another way in training, and their gradients are those of the usual one."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = MobileNetV1(1, width=2, side=64)
        initialise(network)
        images = torch.randn(3, 1, 24, 24)
    for module in network.modules():  # batch-norms that do not look at the batch, in both modes
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    found = {}
    for training in (True, False):
        network.training = training
        for unit in network.units:
            unit.training = training
        features = network(images)
        features.square().sum().backward()
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        found[training] = [features.detach(), *gradients]
        network.zero_grad()
    assert found[True][0].abs().max() > 0
    for first, second in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_a_side_that_cannot_be_halved_four_times_is_refused() -> None:
    """The padding of the first four strided convolutions fits even sizes alone."""
    with pytest.raises(ValueError, match="multiple of 16"):
        MobileNetV1(1, width=32, side=100)


@pytest.mark.parametrize(("height", "width", "channels"), [(48, 48, 1), (40, 56, 3), (64, 64, 3)])
def test_a_crop_is_turned_and_enlarged_as_bicubic_interpolation_does(height: int, width: int, channels: int) -> None:
    """To rounding; in bfloat16 the result alone is rounded."""
    images = torch.randn((2, channels, height, width), generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(images.flip((2, 3)), size=(64, 64), mode="bicubic", align_corners=False)
    torch.testing.assert_close(turned_and_enlarged(images, 64), expected, rtol=0, atol=1e-5)
    half = images.bfloat16()
    expected = F.interpolate(half.float().flip((2, 3)), size=(64, 64), mode="bicubic", align_corners=False).bfloat16()
    torch.testing.assert_close(turned_and_enlarged(half, 64), expected)


@pytest.mark.parametrize("size", [48, 64])
def test_a_crop_that_is_cut_lower_repeats_its_last_row(size: int) -> None:
    """Whether or not it is enlarged."""
    images = torch.randn((2, 1, size, size), generator=torch.Generator().manual_seed(0))
    upright = F.interpolate(images, size=(64, 64), mode="bicubic", align_corners=False)
    expected = torch.cat([upright[:, :, 5:], upright[:, :, -1:].expand(-1, -1, 5, -1)], dim=2).flip((2, 3))
    torch.testing.assert_close(turned_and_enlarged(images, 64, 5), expected, rtol=0, atol=1e-5)
