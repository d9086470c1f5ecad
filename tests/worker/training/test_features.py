"""Features of a frozen backbone are data that heads are trained on."""

from __future__ import annotations

import numpy as np
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


def test_features_are_the_backbones() -> None:
    """Folded and in pieces of batches, it computes what the plain backbone does; the backbone is left as it is."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = CompactResNet(1, 4, (6,), (1,)).train()
        crops = torch.randint(0, 256, (70, 8, 8, 1), dtype=torch.uint8)
    normalise = Normalise(1 / 255, (0.5,), (0.25,))
    with torch.no_grad():
        backbone(normalise(crops))  # batch-norm statistics of its own
    found = compute_features(
        backbone, normalise, iter([crops[:50], crops[50:]]), 70, half_precision=False, dtype=torch.float32
    )
    with torch.inference_mode():
        expected = backbone.eval()(normalise(crops))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)
