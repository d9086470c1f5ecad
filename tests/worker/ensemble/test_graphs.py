"""CUDA graphs without a GPU: what is recorded, on what, and in which order a batch goes up and is computed.

CUDA's part is played by objects that write down what is asked of them; a graph that is replayed runs what was recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from worker.core.devices import OutOfDeviceMemoryError
from worker.ensemble import passes
from worker.ensemble.networks import Ensemble
from worker.ensemble.passes import EagerPass, GraphError, GraphPass, agree

SHAPE = (16, 16, 1)
CPU = torch.device("cpu")
BUCKETS = (1, 8, 32)


class Cuda:
    """What is asked of CUDA, in order.  full: sizes for which there is no memory.  fails: recording raises this."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.full: set[int] = set()
        self.fails: Exception | None = None
        self.replays = True
        self.pools: list[object] = []
        self.streams: list[object] = []
        self.made = 0
        self.compute = Stream(self, "compute")
        self.recording: Graph | None = None
        for name, played in {
            "Stream": lambda device: self._stream(),
            "Event": lambda: Event(self),
            "CUDAGraph": lambda: Graph(self),
            "graph": self._graph,
            "current_stream": lambda device: self.compute,
            "stream": self._on,
            "graph_pool_handle": object,
        }.items():
            patch.setattr(torch.cuda, name, played)
        patch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
        patch.setattr(passes, "CUDA_BUCKETS", BUCKETS)

    def _stream(self) -> Stream:
        self.made += 1
        return Stream(self, {1: "recording", 2: "copies"}[self.made])

    @contextmanager
    def _on(self, stream: Stream) -> Iterator[None]:
        self.calls.append(f"on {stream.name}")
        yield

    @contextmanager
    def _graph(self, graph: Graph, pool: object, stream: Stream) -> Iterator[None]:
        self.pools.append(pool)
        self.streams.append(stream.name)
        graph.of = pool
        self.recording = graph
        if self.fails is not None:
            raise self.fails
        yield
        self.recording = None


class Stream:
    def __init__(self, cuda: Cuda, name: str) -> None:
        self.cuda, self.name = cuda, name

    def wait_stream(self, stream: Stream) -> None:
        self.cuda.calls.append(f"{self.name} waits for {stream.name}")

    def wait_event(self, event: Event) -> None:
        self.cuda.calls.append(f"{self.name} waits for what {event.on} did")


class Event:
    def __init__(self, cuda: Cuda) -> None:
        self.cuda, self.on = cuda, "nobody"

    def record(self, stream: Stream) -> None:
        self.on = stream.name
        self.cuda.calls.append(f"recorded on {stream.name}")

    def synchronize(self) -> None:
        self.cuda.calls.append(f"host waits for what {self.on} did")


class Graph:
    def __init__(self, cuda: Cuda) -> None:
        self.cuda, self.of = cuda, object()
        self.again: Callable[[], None] = lambda: None

    def pool(self) -> object:
        return self.of

    def replay(self) -> None:
        self.cuda.calls.append("replay")
        if self.cuda.replays:
            self.again()


class Recorded(EagerPass):
    """The plain pass; while a graph is recorded, the graph learns to do it again."""

    cuda: Cuda

    def compute(self, pixels: Tensor) -> dict[str, Tensor]:
        if len(pixels) in self.cuda.full:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nadvice")
        states = super().compute(pixels)
        if self.cuda.recording is not None:
            compute = super().compute

            def again() -> None:
                for name, values in compute(pixels).items():
                    states[name].copy_(values)

            self.cuda.recording.again = again
        return states


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """See `Cuda`."""
    return Cuda(monkeypatch)


@pytest.fixture
def eager(ensemble: Ensemble, cuda: Cuda) -> Recorded:
    """The ensemble's backbone with its first member."""
    heads = [("cnn", "shared", ensemble.members[0].head)]
    recorded = Recorded(ensemble.normalise, ensemble.backbones, heads, CPU, torch.float32, "eager")
    recorded.cuda = cuda
    return recorded


def crops(count: int, seed: int = 0) -> list[Any]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), np.uint8))


@pytest.mark.parametrize("count", [1, 5, 8, 32])
def test_batches_come_out_as_from_the_plain_pass(eager: Recorded, count: int) -> None:
    """Padded, copied up and replayed, one after the other, also after a larger one."""
    with torch.inference_mode():
        graphs = GraphPass(eager, SHAPE, CPU)
        for seed in range(3):
            graphs(crops(32, 9))
            given = crops(count, seed)
            torch.testing.assert_close(graphs(given)["cnn"], eager(given)["cnn"])


def test_the_order_in_which_a_batch_goes_up(eager: Recorded, cuda: Cuda) -> None:
    """The upload waits for its own buffers alone, never for the batch that is computed; the batch waits for it."""
    with torch.inference_mode():
        graphs = GraphPass(eager, SHAPE, CPU)
        for _ in range(2):
            graphs(crops(3))
        cuda.calls.clear()
        graphs(crops(3))
    assert cuda.calls == [
        "host waits for what copies did",  # with the pinned buffer, two batches ago
        "copies waits for what compute did",  # with the staged one, two batches ago
        "on copies",
        "recorded on copies",
        "compute waits for what copies did",
        "recorded on compute",
        "replay",
    ]


def test_graphs_share_one_stream_and_one_pool(eager: Recorded, cuda: Cuda) -> None:
    """Or else each would keep memory of its own."""
    with torch.inference_mode():
        GraphPass(eager, SHAPE, CPU)
    assert cuda.streams == ["recording"] * len(BUCKETS)
    assert len(set(map(id, cuda.pools))) == 1


def test_sizes_for_which_there_is_no_memory_are_left_out(eager: Recorded, cuda: Cuda) -> None:
    """The largest batch is then smaller; without any, that is the error."""
    cuda.full = {32}
    with torch.inference_mode():
        graphs = GraphPass(eager, SHAPE, CPU)
        assert (graphs.batch, graphs.buckets) == (8, (1, 8))
        cuda.made, cuda.full = 0, set(BUCKETS)
        with pytest.raises(OutOfDeviceMemoryError):
            GraphPass(eager, SHAPE, CPU)


def test_a_recording_that_fails_is_not_computed_on(eager: Recorded, cuda: Cuda) -> None:
    """What it leaves behind is not known; whoever loads starts again without graphs."""
    cuda.fails = RuntimeError("operation not permitted when stream is capturing\nmore")
    with torch.inference_mode(), pytest.raises(GraphError, match="cannot be recorded: operation not permitted"):
        GraphPass(eager, SHAPE, CPU)


def test_graphs_that_compute_something_else_are_found_out(eager: Recorded, cuda: Cuda) -> None:
    """A graph that is empty, for instance, since its kernels ran on another GPU while it was recorded."""
    with torch.inference_mode():
        assert agree(GraphPass(eager, SHAPE, CPU), eager, SHAPE)
        cuda.made, cuda.replays = 0, False
        assert not agree(GraphPass(eager, SHAPE, CPU), eager, SHAPE)
