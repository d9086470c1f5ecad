"""Features of a frozen backbone are data that heads are trained on."""

from __future__ import annotations

import torch

from worker.ensemble.backbones import CompactResNet
from worker.ensemble.networks import Normalise
from worker.training.features import compute_features


def test_features_can_be_trained_on() -> None:
    """They are computed without gradients, and are no tensors of inference mode."""
    backbone = CompactResNet(1, 4, (6,), (1,))
    batches = iter([torch.zeros((3, 8, 8, 1), dtype=torch.uint8), torch.zeros((2, 8, 8, 1), dtype=torch.uint8)])
    features = compute_features(backbone, Normalise(1, (0.0,), (1.0,)), batches, 5, half_precision=False)
    assert features.shape == (5, 6)
    assert not features.is_inference()
    assert not features.requires_grad
