"""The engine: the whole ensemble on one device, with batches shared by the crops of several clips.

A `Step` is one request of a clip: new crops, and windows over them and over rows kept from the clip's earlier steps.
One thread executes steps in the order of submission and merges waiting ones into a batch, so CUDA has one caller.  The
next batch is launched before the results of the last one are fetched, so that the device never waits for Python.

A `Runtime` computes: `openvino_runtime` on a CPU, `torch_runtime` on a GPU.  Savings over the reference
(`networks.Ensemble.window_probabilities`): one backbone pass for each crop and distinct backbone, not one for each
member and window position; `streaming`'s split of the heads; what the runtimes fuse; bfloat16 where the hardware
supports it natively.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from worker.core.devices import OutOfDeviceMemoryError
from worker.ensemble.fusion import Prior, fuse_at
from worker.ensemble.runtime import Crops, Floats, Rows, Runtime, States

GROW_AFTER = 256  # successful batches before the next larger size is tried again


class EngineStoppedError(Exception):
    """The engine is stopped; the step was not run."""


@dataclass(eq=False)
class Step:
    """One request of a clip.

    crops: N of (size, size, C) uint8.  before: the clip's previous step, whose kept rows come first.
    windows: (W, T) int64, rows of [kept rows of `before`, then crops].  keep: (R,) int64, rows for the next step.
    result: {member: (W, K) float32 probabilities of each window's centre}.
    """

    crops: Crops
    windows: Rows
    keep: Rows
    before: Step | None
    result: Future[dict[str, Floats]] = field(default_factory=Future)
    kept: States[Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Launched:
    """Steps that are being computed.  fetch: waits for their results, (M, W, K) float32 probabilities each."""

    steps: list[Step]
    fetch: Callable[[], Sequence[Floats | Exception]]


@dataclass(frozen=True)
class Ensembled:
    """What the engine knows of an ensemble.  labels: K names.  window: in frames.  weights: of the members in the
    fusion, in the manifest's order.  prior: the label frequencies, None if unknown."""

    labels: tuple[str, ...]
    window: int
    weights: dict[str, float]
    prior: Prior | None = None


@dataclass
class EngineStats:
    """Counters: backbone passes, crops in them, and the crops that full batches would have held."""

    batches: int = 0
    crops: int = 0
    capacity: int = 0


class Engine:
    """The ensemble on a device.  Thread-safe: `submit` may be called from any thread."""

    def __init__(self, ensemble: Ensembled, crop_shape: tuple[int, int, int], runtime: Runtime[Any]) -> None:
        """crop_shape: (size, size, C).  runtime: owned by the engine from now on."""
        self.crop_shape = crop_shape
        self.labels = ensemble.labels
        self.window = ensemble.window
        self.weights = dict(ensemble.weights)
        self.member_names = tuple(ensemble.weights)
        self.prior = ensemble.prior
        self.stats = EngineStats()
        self._runtime = runtime
        self.batch, self.step_frames = runtime.batch, runtime.step_frames
        self._limit = self.batch
        self._roomy = 0  # batches since the limit last changed
        self.halvings = 0  # times that the device had too little memory for a batch
        self._counting = threading.Lock()
        self._stopped = False
        self._steps: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        self._next: Step | None = None  # dequeued, but part of the next batch
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    @property
    def mode(self) -> str:
        """How the ensemble is computed: `openvino`, `eager` or `cuda-graphs`."""
        return self._runtime.mode

    def warm_up(self) -> None:
        """Run a batch of each size that the runtime asks for, so that no job waits for its first use."""
        with self._runtime.warming_up() as counts:
            for count in counts:
                rows = np.tile(np.arange(self.window, dtype=np.int64), (count, 1)).clip(max=count - 1)
                step = Step([np.zeros(self.crop_shape, np.uint8)] * count, rows, np.empty(0, np.int64), None)
                self.submit(step)
                step.result.result()
        self.stats = EngineStats()

    def encode_only(self, crops: Crops) -> int:
        """Compute the states of one batch and drop them, to measure it while no step is queued.  Returns its size."""
        with self._runtime.serving():
            self._runtime.wait_for(self._runtime.encode(crops))
        return len(crops)

    def submit(self, step: Step) -> None:
        """Queue a step; a clip's steps are submitted in order."""
        self._steps.put(step)

    def fuse(
        self, probabilities: dict[str, Floats], members: Sequence[str], prior: float | None = None
    ) -> tuple[Floats, Floats]:
        """Fuse the chosen members' probabilities, (W, K) each -> fused (W, K) and by member (M, W, K), float32.

        prior: the prior of both outputs, None for the bundle's default.  Raises: NoPriorError.
        """
        weights = np.array([self.weights[name] for name in members], np.float32)
        return fuse_at(np.stack([probabilities[name] for name in members]), weights, self.prior, prior)

    def take_stats(self) -> EngineStats:
        """Return the counters and reset them."""
        with self._counting:
            stats, self.stats = self.stats, EngineStats()
        return stats

    def stop(self) -> None:
        """Run nothing more: queued and later steps fail with EngineStoppedError."""
        self._stopped = True

    def close(self) -> None:
        """Join the threads after all submitted steps."""
        self._steps.put(None)
        self._thread.join()
        self._runtime.close()

    def _serve(self) -> None:
        launched: deque[_Launched] = deque()
        with self._runtime.serving():
            while (steps := self._gather(wait=not launched)) is not None:
                if steps:
                    with _results_of(steps):
                        if self._stopped:
                            raise EngineStoppedError
                        launched.append(self._launch(steps))
                self._land_all_but(self._runtime.ahead if steps else 0, launched)
            self._land_all_but(0, launched)

    def _land_all_but(self, count: int, launched: deque[_Launched]) -> None:
        while len(launched) > count:
            landing = launched.popleft()
            with _results_of(landing.steps):
                self._land(landing)

    def _gather(self, *, wait: bool) -> list[Step] | None:
        """Steps that share a batch; empty if the queue is empty and `wait` is false; None after `close`."""
        try:
            step = self._next or self._steps.get(block=wait)
        except queue.Empty:
            return []
        self._next = None
        if step is None:
            return None
        steps, crops = [step], len(step.crops)
        # Steps of other clips that are already queued join the batch; it waits for no further ones.
        while crops < self.batch and not self._steps.empty():
            other = self._steps.get()
            if other is None:
                self._steps.put(None)
                break
            if crops + len(other.crops) > self.batch or any(other.before is step for step in steps):
                self._next = other
                break
            steps.append(other)
            crops += len(other.crops)
        return steps

    def _launch(self, steps: list[Step]) -> _Launched:
        going = [step for step in steps if not _fails_with_its_former(step)]
        # Copied first: behind the batch they would wait for it.
        rows = iter(self._runtime.indices([part for step in going for part in (step.keep, step.windows)]))
        crops = [crop for step in going for crop in step.crops]
        states = self._encode(crops) if crops else {}
        start = 0
        launched, results = [], []
        for step, keep, windows in zip(going, rows, rows, strict=True):
            end = start + len(step.crops)
            with _results_of([step]):  # an error here fails only this clip
                new = {name: values[start:end] for name, values in states.items()}
                results.append(self._step(step, new, keep, windows))
                launched.append(step)
            start = end
        return _Launched(launched, self._runtime.fetching(results))

    def _step(self, step: Step, new: States[Any], keep: Any, windows: Any) -> Any:
        """Run the heads for a step, given its crops' states -> (M, W, K) float32 probabilities on the device."""
        kept = step.before.kept if step.before is not None else {}
        rows = self._runtime.join([kept, new]) if kept and new else new or kept
        count = len(next(iter(rows.values())))
        if max(step.windows.max(initial=-1), step.keep.max(initial=-1)) >= count:
            # On a GPU an index error is asynchronous and makes the device unusable for the process.
            raise IndexError(f"a window reads beyond the step's {count} rows")
        step.kept, result = self._runtime.step(rows, keep, windows)
        step.before = None
        return result

    def _land(self, launched: _Launched) -> None:
        for step, values in zip(launched.steps, launched.fetch(), strict=True):
            if isinstance(values, Exception):
                _fail([step], values)
                continue
            step.result.set_result(dict(zip(self.member_names, values, strict=True)))

    def _encode(self, crops: Crops) -> States[Any]:
        """N of (size, size, C) uint8 -> {member: (N, S)} states on the device."""
        parts: list[States[Any]] = []
        start = 0
        while start < len(crops):
            part = crops[start : start + self._limit]
            try:
                parts.append(self._runtime.encode(part))
            except OutOfDeviceMemoryError:
                if self._limit == 1:
                    raise
                self._limit //= 2
                self._roomy = 0
                self.halvings += 1
                self._runtime.give_back_memory()
                continue
            start += len(part)
            self._roomy += 1
            if self._limit < self.batch and self._roomy == GROW_AFTER:  # the memory may be free again
                self._limit, self._roomy = min(2 * self._limit, self.batch), 0
            with self._counting:
                self.stats.batches += 1
                self.stats.crops += len(part)
                self.stats.capacity += self.batch
        return parts[0] if len(parts) == 1 else self._runtime.join(parts)


def _fails_with_its_former(step: Step) -> bool:
    """Fail the step if the clip's previous step, whose rows it needs, has failed.  Returns whether it did."""
    former = step.before
    error = former.result.exception() if former is not None and former.result.done() else None
    if error is not None:
        step.before = None
        _fail([step], error)
    return error is not None


def _fail(steps: list[Step], error: BaseException) -> None:
    """Set the error as the result of the steps without one; setting a future twice would raise."""
    for step in steps:
        if not step.result.done():
            step.result.set_exception(error)


@contextmanager
def _results_of(steps: list[Step]) -> Iterator[None]:
    """An exception inside the block becomes the result of these steps, except those that already have one."""
    try:
        yield
    except BaseException as error:
        _fail(steps, error)
