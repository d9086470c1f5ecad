"""The engine: the whole ensemble on one device, fed in batches that the crops of several clips share.

A `Step` is what one clip asks for at once: new crops, and windows over them and over what the clip's former steps left.
One thread executes steps in the order they come, merging those that wait, so that CUDA sees one caller.  A GPU gets the
next batch before the results of the last one are fetched, so that it never waits for Python either.

What it saves against the plain way (`networks.Ensemble.window_probabilities`): one backbone pass a crop and distinct
backbone instead of one a member and window place; `streaming`'s split of the heads; batch-norm folded into the
convolutions, and on a CPU additions and ReLUs too; channels-last memory; bfloat16 where the hardware has it natively.
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

GROW_AFTER = 256  # batches that fitted, before the next larger size is tried again
# A clip's step is sent at the latest after so many frames, however few faces they have, so that results keep appearing.
STEP_FRAMES = 16
CUDA_STEP_FRAMES = 64  # a GPU is through with more of them sooner


class EngineStoppedError(Exception):
    """The engine was told to stop; the step was not run."""


@dataclass(eq=False)
class Step:
    """What one clip asks for at once.

    crops: N of (size, size, C) uint8.  before: the clip's former step, whose kept rows come first.
    windows: (W, T) int64, rows of [kept rows of `before`, then crops].  keep: (R,) int64, rows the next step needs.
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
    """Steps with their results, (M, W, K) float32 probabilities of each; `done` says when those have arrived."""

    steps: list[Step]
    results: list[Tensor]
    done: torch.cuda.Event | None


@dataclass
class EngineStats:
    """Counters: backbone passes, crops in them, crops that batches of full size would have held."""

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
        """crop_shape: (size, size, C).  make_pass: makes the frame pass, of what `frame_pass` takes.

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
        self.halvings = 0  # how often the device had no memory for a batch
        self._counting = threading.Lock()
        self._stopped = False
        self._ahead = 1 if device.type == "cuda" else 0  # batches launched before the last one's results are fetched
        self._steps: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        self._next: Step | None = None  # taken from the queue, but for the batch to come
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    @property
    def mode(self) -> str:
        """How the backbone runs: `eager`, `fused` (convolutions with what follows them, on a CPU) or `cuda-graphs`."""
        return self._pass.mode

    def warm_up(self) -> None:
        """Run a batch, on a GPU one of every size, so that no job waits for a kernel to be chosen."""
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
        """The chosen members' probabilities, each (W, K) -> fused (W, K), and the members' own (M, W, K), float32.

        prior: what both are given at; None for the bundle's default.
        """
        weights = torch.tensor([self.weights[name] for name in members])
        stacked = torch.from_numpy(np.stack([probabilities[name] for name in members]))
        fused, own = fuse_at(stacked, weights, self.prior, prior)
        return fused.numpy(), own.numpy()

    def take_stats(self) -> EngineStats:
        """The counters since they were last taken."""
        with self._counting:
            stats, self.stats = self.stats, EngineStats()
        return stats

    def stop(self) -> None:
        """Run nothing more: steps that wait or come later fail with EngineStoppedError, so that nobody waits long."""
        self._stopped = True

    def close(self) -> None:
        """Stop the thread after what was submitted."""
        self._steps.put(None)
        self._thread.join()

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
        """Steps that share a batch; none if nothing waits and `wait` is false; None after `close`."""
        try:
            step = self._next or self._steps.get(block=wait)
        except queue.Empty:
            return []
        self._next = None
        if step is None:
            return None
        steps, crops = [step], len(step.crops)
        # Steps of other clips that wait already share the batch; nobody waits for company.
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
        indices = self._indices(going)  # on their way before the batch, behind which they would wait
        crops = [crop for step in going for crop in step.crops]
        states = self._encode(crops) if crops else {}
        start = 0
        launched, results = [], []
        for step, (keep, windows) in zip(going, indices, strict=True):
            end = start + len(step.crops)
            with _results_of([step]):  # what goes wrong here concerns no other clip
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
        """Each step's `keep` and `windows` on the device, brought there in one copy that nobody waits for."""
        if not steps:
            return []
        parts = [part for step in steps for part in (step.keep, step.windows.ravel())]
        together = torch.from_numpy(np.concatenate(parts))
        if self.device.type == "cuda":  # from other memory it would wait until the GPU has nothing else to do
            together = together.pin_memory()
        there = iter(torch.split(together.to(self.device, non_blocking=True), [len(part) for part in parts]))
        return [(keep, next(there).view(-1, self.window)) for keep in there]

    def _step(self, step: Step, new: dict[str, Tensor], keep: Tensor, windows: Tensor) -> Tensor:
        """A step whose crops have these states -> (M, W, K) float32 probabilities on the device."""
        kept = step.before.kept if step.before is not None else {}
        rows = {name: torch.cat((kept[name], new[name])) for name in kept} if kept and new else new or kept
        count = len(next(iter(rows.values())))
        if max(step.windows.max(initial=-1), step.keep.max(initial=-1)) >= count:
            # A GPU would notice later, and then compute nothing any more for anybody.
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
            if self._limit < self.batch and self._roomy == GROW_AFTER:  # whoever took the memory may be gone
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
    """Whether the clip's former step has failed, and this one, which would go on from its rows, with it."""
    former = step.before
    error = former.result.exception() if former is not None and former.result.done() else None
    if error is not None:
        step.before = None
        _fail([step], error)
    return error is not None


def _fail(steps: list[Step], error: BaseException) -> None:
    """The error is the result of those steps that have none yet; a future that is set twice would raise."""
    for step in steps:
        if not step.result.done():
            step.result.set_exception(error)


@contextmanager
def _results_of(steps: list[Step]) -> Iterator[None]:
    """Whatever goes wrong inside is the result of these steps, but of those that have one already."""
    try:
        yield
    except torch.OutOfMemoryError:  # in the heads, which no smaller batch of crops would relieve
        _fail(steps, OutOfDeviceMemoryError("the device has no memory for the heads; free some of it"))
    except BaseException as error:
        _fail(steps, error)
