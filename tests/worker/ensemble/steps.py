"""Steps for the engine, and a frame pass that tests hold back and fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worker.ensemble.engine import Engine, Step
from worker.ensemble.networks import Ensemble
from worker.ensemble.passes import FramePass, frame_pass
from worker.ensemble.precision import Precision
from worker.ensemble.runtime import Crops
from worker.ensemble.torch_runtime import TorchRuntime

SHAPE = (16, 16, 1)
NO_ROWS = np.empty(0, np.int64)


class Watched:
    """A frame pass around another one: it notes its batches, can be held back, and has room for `room` crops only."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.room = 1_000_000
        self.error: Exception | None = None  # of the batch after the first
        self.go = threading.Event()
        self.go.set()
        self.reached = threading.Event()

    def around(self, *given: Any) -> Watched:
        """Itself, around the frame pass that an engine would make."""
        self._inner = frame_pass(*given)
        self.mode, self.batch, self.buckets = self._inner.mode, self._inner.batch, self._inner.buckets
        return self

    def __call__(self, crops: Crops) -> dict[str, Tensor]:
        self.reached.set()
        assert self.go.wait(20)
        if len(self.sizes) == 1 and self.error is not None:
            error, self.error = self.error, None
            raise error
        if len(crops) > self.room:
            raise torch.OutOfMemoryError("out of memory")
        self.sizes.append(len(crops))
        return self._inner(crops)

    @contextmanager
    def held(self, engine: Engine) -> Iterator[None]:
        """Steps that are submitted during a batch form the next batch."""
        self.go.clear()
        self.reached.clear()
        engine.submit(step_of([np.zeros(SHAPE, np.uint8)]))
        assert self.reached.wait(20)
        try:
            yield
        finally:
            self.go.set()


def torch_engine(
    ensemble: Ensemble,
    device: str = "cpu",
    precision: Precision = "fp32",
    make_pass: Callable[..., FramePass] = frame_pass,
) -> Engine:
    """An engine that computes in torch."""
    runtime = TorchRuntime(ensemble, SHAPE, torch.device(device), precision, make_pass)
    return Engine(ensemble.described, SHAPE, runtime)


def clip(seed: int, length: int) -> Crops:
    return list(np.random.default_rng(seed).integers(0, 256, (length, *SHAPE), np.uint8))


def step_of(crops: Crops) -> Step:
    """One step that asks for every crop of a clip."""
    length = len(crops)
    windows = np.clip(np.arange(length)[:, None] + np.arange(-4, 5), 0, length - 1)
    return Step(crops, windows, NO_ROWS, None)


def check(ensemble: Ensemble, step: Step, tolerance: float = 1e-5) -> None:
    """The step's results are those of its own crops."""
    result = step.result.result(20)
    for row, window in enumerate(step.windows):
        for name, expected in ensemble.window_probabilities(
            torch.from_numpy(np.stack([step.crops[i] for i in window]))
        ).items():
            np.testing.assert_allclose(result[name][row], expected.numpy(), atol=tolerance)
