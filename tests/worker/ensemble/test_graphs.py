"""CUDA graphs, on a GPU: what they compute, for which batch sizes there are some, and how recording fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.worker.ensemble.steps import SHAPE
from worker.core.cuda import on_device
from worker.core.devices import OutOfDeviceMemoryError
from worker.ensemble import passes
from worker.ensemble.networks import Ensemble
from worker.ensemble.passes import EagerPass, FramePass, GraphError, GraphPass, agree, frame_pass
from worker.ensemble.runtime import Crops

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
BUCKETS = (1, 8, 32)


class Plain(EagerPass):
    """The plain pass on the GPU; `refuse` may fail a batch once its kernels are launched."""

    refuse: Callable[[Tensor], None] = staticmethod(lambda pixels: None)

    def compute(self, pixels: Tensor) -> dict[str, Tensor]:
        states = super().compute(pixels)
        self.refuse(pixels)
        return states


@pytest.fixture
def plain(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> Plain:
    """The ensemble's backbone with its first member, on the GPU."""
    monkeypatch.setattr(passes, "CUDA_BUCKETS", BUCKETS)
    normalise = ensemble.normalise.to(GPU)
    backbones = {name: backbone.to(GPU) for name, backbone in ensemble.backbones.items()}
    heads = [("cnn", "shared", ensemble.members[0].head.to(GPU))]
    return Plain(normalise, backbones, heads, GPU, torch.float32)


@pytest.fixture
def ensemble(make_ensemble: Callable[[int], Ensemble]) -> Ensemble:
    """One of this test's own, which may be moved to a device."""
    return make_ensemble(9)


def crops(count: int, seed: int = 0) -> list[Any]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), np.uint8))


def recorded(plain: Plain) -> GraphPass:
    with torch.inference_mode(), on_device(GPU):
        return GraphPass(plain, SHAPE, GPU)


@pytest.mark.gpu
@pytest.mark.parametrize("count", [1, 5, 8, 32])
def test_batches_come_out_as_from_the_plain_pass(plain: Plain, count: int) -> None:
    """Padded, copied up and replayed, one after the other, also after a larger one."""
    graphs = recorded(plain)
    with torch.inference_mode():
        for seed in range(3):
            graphs(crops(32, 9))
            given = crops(count, seed)
            torch.testing.assert_close(graphs(given)["cnn"], plain(given)["cnn"])


@pytest.mark.gpu
def test_batches_that_follow_each_other_at_once_keep_their_crops(plain: Plain) -> None:
    """While one is computed the next ones go up: none overwrites what another still reads."""
    graphs = recorded(plain)
    with torch.inference_mode():
        launched = [graphs(crops(32, seed))["cnn"] for seed in range(50)]
        for seed, found in enumerate(launched):
            torch.testing.assert_close(found, plain(crops(32, seed))["cnn"])


@pytest.mark.gpu
def test_graphs_share_one_pool(plain: Plain) -> None:
    """Or else each would keep memory of its own."""
    graphs = recorded(plain)
    assert len({graph.pool() for graph, _, _ in graphs._graphs.values()}) == 1


@pytest.mark.gpu
def test_sizes_for_which_there_is_no_memory_are_left_out(plain: Plain) -> None:
    """The largest batch is then smaller; without any, that is the error."""
    full: set[int] = {32}

    def refuse(pixels: Tensor) -> None:
        if len(pixels) in full:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nadvice")

    plain.refuse = refuse
    graphs = recorded(plain)
    assert (graphs.batch, graphs.buckets) == (8, (1, 8))
    full.update(BUCKETS)
    with pytest.raises(OutOfDeviceMemoryError):
        recorded(plain)


@pytest.mark.gpu
def test_a_recording_that_fails_is_not_computed_on(plain: Plain) -> None:
    """Its state is unknown afterwards; the loader restarts without graphs."""

    def refuse(pixels: Tensor) -> None:
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    plain.refuse = refuse
    with pytest.raises(GraphError, match="cannot be recorded: operation not permitted"):
        recorded(plain)


class Wrong:
    """A pass that computes something else for the batches of one size, as a graph that recorded nothing would."""

    def __init__(self, right: FramePass, size: int) -> None:
        self.mode, self.batch, self.buckets = right.mode, right.batch, right.buckets
        self._right, self._size = right, size

    def __call__(self, crops: Crops) -> dict[str, Tensor]:
        states = self._right(crops)
        return {name: torch.zeros_like(state) for name, state in states.items()} if len(crops) == self._size else states


@pytest.mark.parametrize("size", passes.CPU_BUCKETS)
def test_a_pass_that_computes_something_else_is_found_out(ensemble: Ensemble, size: int) -> None:
    """A graph that is empty, for instance, since its kernels ran on another GPU while it was recorded."""
    heads = [("cnn", "shared", ensemble.members[0].head)]
    right = frame_pass(ensemble.normalise, ensemble.backbones, heads, SHAPE, CPU, torch.float32)
    with torch.inference_mode():
        assert agree(right, right, SHAPE)
        assert not agree(Wrong(right, size), right, SHAPE)
