"""The engine: the whole ensemble on one device, with batches shared by the crops of several clips.

A `Step` is one request of a clip: new crops, and windows over them and over rows kept from the clip's earlier steps.
One thread executes steps in the order of submission and merges waiting ones into a batch, so CUDA has one caller.  On a
GPU the next batch is launched before the results of the last one are fetched, so that the GPU never waits for Python.

Savings over the reference (`networks.Ensemble.window_probabilities`): one backbone pass for each crop and distinct
backbone instead of one for each member and window position; `streaming`'s split of the heads; batch-norm folded into
convolutions, on a CPU also additions and ReLUs; channels-last memory; bfloat16 where the hardware supports it natively.
"""

from __future__ import annotations

import copy
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from worker.core.devices import OutOfDeviceMemoryError, choosing_kernels, on_device
from worker.ensemble.fusion import fuse_at
from worker.ensemble.networks import Ensemble
from worker.ensemble.passes import FramePass, frame_pass
from worker.ensemble.precision import DTYPES, Precision
from worker.ensemble.streaming import stream_head

Crops = Sequence[npt.NDArray[np.uint8]]
Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

GROW_AFTER = 256  # successful batches before the next larger size is tried again
# A clip submits a step at least every so many frames, however few faces they have, so that results keep appearing.
STEP_FRAMES = 32
CUDA_STEP_FRAMES = 64  # a GPU needs less time for them


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
    kept: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class _Launched:
    """Steps with their results, (M, W, K) float32 probabilities each.  done: event after their copy to the host."""

    steps: list[Step]
    results: list[Tensor]
    done: torch.cuda.Event | None


@dataclass
class EngineStats:
    """Counters: backbone passes, crops in them, and the crops that full batches would have held."""

    batches: int = 0
    crops: int = 0
    capacity: int = 0


class Engine:
    """The ensemble on a device.  Thread-safe: `submit` may be called from any thread."""

    def __init__(
        self,
        ensemble: Ensemble,
        crop_shape: tuple[int, int, int],
        device: torch.device,
        precision: Precision,
        make_pass: Callable[..., FramePass] = frame_pass,
    ) -> None:
        """crop_shape: (size, size, C).  make_pass: factory with the parameters of `frame_pass`.

        Raises: OutOfDeviceMemoryError, GraphError.
        """
        self.crop_shape = crop_shape
        self.labels = ensemble.labels
        self.window = ensemble.window
        self.device = device
        self.precision = precision
        self.member_names = tuple(member.name for member in ensemble.members)
        self.weights = {member.name: member.weight for member in ensemble.members}
        self.prior = ensemble.prior
        self.stats = EngineStats()
        dtype = DTYPES[precision]
        normalise = copy.deepcopy(ensemble.normalise).to(device)
        self._members = [
            (member.name, member.backbone, stream_head(copy.deepcopy(member.head), ensemble.window), member.temperature)
            for member in ensemble.members
        ]
        for _, _, head, _ in self._members:
            head.to(device=device, dtype=dtype).eval().requires_grad_(False)
        heads = [(name, backbone, head.encode) for name, backbone, head, _ in self._members]
        self._pass = make_pass(normalise, ensemble.backbones, heads, crop_shape, device, dtype)
        self.batch = self._pass.batch
        self.step_frames = CUDA_STEP_FRAMES if device.type == "cuda" else STEP_FRAMES
        self._limit = self.batch
        self._roomy = 0  # batches since the limit last changed
        self.halvings = 0  # times that the device had too little memory for a batch
        self._counting = threading.Lock()
        self._stopped = False
        self._ahead = 1 if device.type == "cuda" else 0  # batches launched before the last one's results are fetched
        self._steps: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        self._next: Step | None = None  # dequeued, but part of the next batch
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    @property
    def mode(self) -> str:
        """How the backbone runs: `eager`, `fused` (on a CPU, see `conv_fusion`) or `cuda-graphs`."""
        return self._pass.mode

    def warm_up(self) -> None:
        """Run a batch, on a GPU one of every size, so that no job waits for kernel selection."""
        with choosing_kernels():
            for count in self._pass.buckets if self.device.type == "cuda" else self._pass.buckets[:1]:
                rows = np.tile(np.arange(self.window, dtype=np.int64), (count, 1)).clip(max=count - 1)
                step = Step([np.zeros(self.crop_shape, np.uint8)] * count, rows, np.empty(0, np.int64), None)
                self.submit(step)
                step.result.result()
        self.stats = EngineStats()

    def submit(self, step: Step) -> None:
        """Queue a step; a clip's steps are submitted in order."""
        self._steps.put(step)

    def fuse(
        self, probabilities: dict[str, Floats], members: Sequence[str], prior: float | None = None
    ) -> tuple[Floats, Floats]:
        """Fuse the chosen members' probabilities, (W, K) each -> fused (W, K) and by member (M, W, K), float32.

        prior: the prior of both outputs, None for the bundle's default.  Raises: NoPriorError.
        """
        weights = torch.tensor([self.weights[name] for name in members])
        stacked = torch.from_numpy(np.stack([probabilities[name] for name in members]))
        fused, own = fuse_at(stacked, weights, self.prior, prior)
        return fused.numpy(), own.numpy()

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
        self._pass.close()

    def _serve(self) -> None:
        launched: deque[_Launched] = deque()
        with torch.inference_mode(), on_device(self.device):
            while (steps := self._gather(wait=not launched)) is not None:
                if steps:
                    with _results_of(steps):
                        if self._stopped:
                            raise EngineStoppedError
                        launched.append(self._launch(steps))
                self._land_all_but(self._ahead if steps else 0, launched)
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
        indices = self._indices(going)  # copied first: behind the batch they would wait for it
        crops = [crop for step in going for crop in step.crops]
        states = self._encode(crops) if crops else {}
        start = 0
        launched, results = [], []
        for step, (keep, windows) in zip(going, indices, strict=True):
            end = start + len(step.crops)
            with _results_of([step]):  # an error here fails only this clip
                new = {name: values[start:end] for name, values in states.items()}
                results.append(self._step(step, new, keep, windows))
                launched.append(step)
            start = end
        if self.device.type != "cuda":
            return _Launched(launched, results, None)
        fetched = [torch.empty(values.shape, dtype=values.dtype, pin_memory=True) for values in results]
        for host, values in zip(fetched, results, strict=True):
            host.copy_(values, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self.device))
        return _Launched(launched, fetched, done)

    def _indices(self, steps: list[Step]) -> list[tuple[Tensor, Tensor]]:
        """Each step's `keep` (R,) and `windows` (W, T) on the device, in one asynchronous copy."""
        if not steps:
            return []
        parts = [part for step in steps for part in (step.keep, step.windows.ravel())]
        together = torch.from_numpy(np.concatenate(parts))
        if self.device.type == "cuda":  # a copy from pageable memory would wait until the GPU is idle
            together = together.pin_memory()
        there = iter(torch.split(together.to(self.device, non_blocking=True), [len(part) for part in parts]))
        return [(keep, next(there).view(-1, self.window)) for keep in there]

    def _step(self, step: Step, new: dict[str, Tensor], keep: Tensor, windows: Tensor) -> Tensor:
        """Run the heads for a step, given its crops' states -> (M, W, K) float32 probabilities on the device."""
        kept = step.before.kept if step.before is not None else {}
        rows = {name: torch.cat((kept[name], new[name])) for name in kept} if kept and new else new or kept
        count = len(next(iter(rows.values())))
        if max(step.windows.max(initial=-1), step.keep.max(initial=-1)) >= count:
            # On a GPU an index error is asynchronous and makes the device unusable for the process.
            raise IndexError(f"a window reads beyond the step's {count} rows")
        step.kept = {name: values[keep] for name, values in rows.items()}
        step.before = None
        return self._decode(rows, windows)

    def _land(self, launched: _Launched) -> None:
        if launched.done is not None:
            launched.done.synchronize()
        for step, values in zip(launched.steps, launched.results, strict=True):
            step.result.set_result(dict(zip(self.member_names, values.numpy(), strict=True)))

    def _encode(self, crops: Crops) -> dict[str, Tensor]:
        """N of (size, size, C) uint8 -> {member: (N, S)} states on the device."""
        parts: list[dict[str, Tensor]] = []
        start = 0
        while start < len(crops):
            part = crops[start : start + self._limit]
            try:
                parts.append(self._pass(part))
            except torch.OutOfMemoryError:
                if self._limit == 1:
                    raise OutOfDeviceMemoryError("the device has no memory for one face; free some of it") from None
                self._limit //= 2
                self._roomy = 0
                self.halvings += 1
                torch.cuda.empty_cache()
                continue
            start += len(part)
            self._roomy += 1
            if self._limit < self.batch and self._roomy == GROW_AFTER:  # the memory may be free again
                self._limit, self._roomy = min(2 * self._limit, self.batch), 0
            with self._counting:
                self.stats.batches += 1
                self.stats.crops += len(part)
                self.stats.capacity += self.batch
        if len(parts) == 1:
            return parts[0]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _decode(self, states: dict[str, Tensor], windows: Tensor) -> Tensor:
        """Windows (W, T) of states -> (M, W, K) float32 probabilities."""
        probabilities = []
        for name, _, head, temperature in self._members:
            logits = head.decode(states[name], windows)
            probabilities.append(torch.softmax(logits.float() / temperature, dim=-1))
        return torch.stack(probabilities)


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
    except torch.OutOfMemoryError:  # in the heads, where a smaller batch of crops would not help
        _fail(steps, OutOfDeviceMemoryError("the device has no memory for the heads; free some of it"))
    except BaseException as error:
        _fail(steps, error)
