"""Backbones compute what they say they do."""

from __future__ import annotations

import pytest
import torch

from worker.ensemble.backbones import MobileNetV1, initialise


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


def test_a_side_that_cannot_be_halved_five_times_is_refused() -> None:
    """The padding of strided convolutions fits even sizes alone."""
    with pytest.raises(ValueError, match="multiple of 32"):
        MobileNetV1(1, side=100)
