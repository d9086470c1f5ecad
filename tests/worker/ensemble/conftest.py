"""A whole ensemble of tiny networks whose answers differ widely from crop to crop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from tests.worker.ensemble.steps import Watched, torch_engine
from worker.ensemble.backbones import CompactResNet, initialise
from worker.ensemble.engine import Engine
from worker.ensemble.members import FrameHead, RecurrentHead, TransformerHead
from worker.ensemble.networks import Ensemble, Member, Normalise

LABELS = ("Neutral", "Anger", "Disgust", "Fear", "Happiness")
MakeEnsemble = Callable[[int], Ensemble]


@pytest.fixture(scope="session")
def make_ensemble() -> MakeEnsemble:
    """An ensemble with this window."""

    def make(window: int) -> Ensemble:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            backbone = CompactResNet(1, 8, (12,), (1,))
            initialise(backbone)
            sizes = (backbone.feature_size, len(LABELS))
            members = (
                Member("cnn", "shared", FrameHead(*sizes), 1.0, 1.0),
                Member("cnn_rnn", "shared", RecurrentHead(*sizes, 16, 8), 1.2, 2.0),
                Member("cnn_transformer", "shared", TransformerHead(*sizes, 16, 4, 2, 4.0, "time"), 0.9, 0.5),
            )
        normalise = Normalise(1 / 255, (0.5,), (0.25,))
        ensemble = Ensemble(LABELS, window, normalise, {"shared": backbone}, members)
        for member in members:
            for parameter in member.parameters():
                parameter.data.mul_(3)  # or else all crops get much the same answer
        for module in ensemble.modules():
            module.eval().requires_grad_(False)
        return ensemble

    return make


@pytest.fixture(scope="session")
def ensemble(make_ensemble: MakeEnsemble) -> Ensemble:
    """The ensemble with the usual window of 9."""
    return make_ensemble(9)


@pytest.fixture
def watched() -> Watched:
    """The frame pass of `engine`."""
    return Watched()


@pytest.fixture
def engine(ensemble: Ensemble, watched: Watched) -> Iterator[Engine]:
    """An engine of that ensemble on the CPU in float32."""
    engine = torch_engine(ensemble, make_pass=watched.around)
    yield engine
    engine.close()
