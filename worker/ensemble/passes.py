"""PyTorch's frame pass: from uint8 crops to every member's per-frame states, by the fastest method of the device.

`EagerPass` is plain PyTorch and works everywhere.  `GraphPass` is for CUDA: crops are copied as bytes from pinned
memory on a separate stream while the GPU computes the previous batch, and each batch size is a CUDA graph recorded
once, so that the GPU never waits for Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import structlog
import torch
from torch import Tensor, nn

from worker.core.cuda import choosing_kernels, on_device
from worker.core.devices import OutOfDeviceMemoryError, first_line
from worker.core.folding import for_inference
from worker.ensemble.networks import Normalise
from worker.ensemble.runtime import Crops

Encode = Callable[[Tensor], Tensor]
Heads = Sequence[tuple[str, str, Encode]]  # member, its backbone, features -> states

CPU_BATCH = 32  # larger batches leave the cache and are slower
CUDA_BUCKETS = (1, 8, 32, 64, 128, 256)
CPU_BUCKETS = (1, CPU_BATCH)
# Tolerance between a graph and the same kernels run eagerly, relative to the largest state: bfloat16's rounding.
SAME = 0.05

log = structlog.get_logger(__name__)


class GraphError(Exception):
    """Recording a CUDA graph failed; this process must not use the device any more.

    A new process with `MIEN_CUDA_GRAPHS` off, which records none, can serve.
    """


class FramePass(Protocol):
    """N crops (size, size, C) uint8, N <= batch -> {member: (N, S)} on the device.

    buckets: batch sizes to warm up, ascending.  batch: the last of them.
    """

    mode: str
    batch: int
    buckets: tuple[int, ...]

    def __call__(self, crops: Crops) -> dict[str, Tensor]: ...


class EagerPass(FramePass):
    """Plain PyTorch.  On a GPU a batch is padded to the next of `buckets`: cuDNN makes a plan for each new size."""

    mode = "eager"

    def __init__(
        self,
        normalise: Normalise,
        backbones: Mapping[str, nn.Module],
        heads: Heads,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._normalise = normalise
        self._backbones = backbones
        self._heads = heads
        self._device = device
        self._dtype = dtype
        self.buckets: tuple[int, ...] = batch_sizes(device)
        self.batch = self.buckets[-1]

    def __call__(self, crops: Crops) -> dict[str, Tensor]:
        if self._device.type == "cpu":
            return self.compute(torch.from_numpy(np.stack(crops)))
        pixels = torch.from_numpy(padded(crops, bucket_for(len(crops), self.buckets)))
        states = self.compute(pixels.to(self._device))
        return {name: values[: len(crops)] for name, values in states.items()}

    def compute(self, pixels: Tensor) -> dict[str, Tensor]:
        """Pixels (N, size, size, C) uint8 on the device -> {member: (N, S)}."""
        images = self._normalise(pixels).to(self._dtype)
        features = {key: backbone(images) for key, backbone in self._backbones.items()}
        return {name: encode(features[key]) for name, key, encode in self._heads}


@dataclass
class _Upload:
    """Buffers to upload one batch, with the events after which each may be overwritten.

    pinned (host), staged (device): (batch, size, size, C) uint8.  sent: `pinned` was read.  taken: `staged` was read.
    """

    pinned: Tensor
    staged: Tensor
    sent: torch.cuda.Event
    taken: torch.cuda.Event


class GraphPass(FramePass):
    """One CUDA graph for each batch size; a batch is padded to the next size.

    Uploads are double-buffered: while the GPU computes one batch, the next one is copied.
    """

    mode = "cuda-graphs"

    def __init__(self, eager: EagerPass, crop_shape: tuple[int, int, int], device: torch.device) -> None:
        """Raises: OutOfDeviceMemoryError if there is no memory for the smallest graph; GraphError."""
        self._device = device
        # All graphs are recorded on one stream and share one memory pool: they run one at a time, on one stream, and
        # a graph's outputs are copied before the next one runs.
        self._recording = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, dict[str, Tensor]]] = {}
        with choosing_kernels():
            for bucket in reversed(CUDA_BUCKETS):  # largest first: smaller graphs then reuse its memory
                recorded = self._record(eager, bucket, crop_shape)
                if recorded is not None:
                    self._graphs[bucket] = recorded
        if not self._graphs:
            raise OutOfDeviceMemoryError("the device has no memory for one face; free some of it")
        self.buckets: tuple[int, ...] = tuple(sorted(self._graphs))
        self.batch = self.buckets[-1]
        self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._uploads = [self._upload((self.batch, *crop_shape)) for _ in range(2)]
        self._turn = 0

    def _upload(self, shape: tuple[int, ...]) -> _Upload:
        pinned = torch.zeros(shape, dtype=torch.uint8).pin_memory()
        staged = torch.zeros(shape, dtype=torch.uint8, device=self._device)
        sent, taken = torch.cuda.Event(), torch.cuda.Event()  # type: ignore[no-untyped-call]
        # The first copy waits for earlier writes to the memory of `staged`.
        taken.record(torch.cuda.current_stream(self._device))
        return _Upload(pinned, staged, sent, taken)

    def _record(
        self, eager: EagerPass, bucket: int, crop_shape: tuple[int, int, int]
    ) -> tuple[torch.cuda.CUDAGraph, Tensor, dict[str, Tensor]] | None:
        """A graph with its input and outputs; None if there is too little memory for so many crops."""
        compute = torch.cuda.current_stream(self._device)
        try:
            pixels = torch.zeros((bucket, *crop_shape), dtype=torch.uint8, device=self._device)
            self._recording.wait_stream(compute)
            with torch.cuda.stream(self._recording):
                for _ in range(3):  # cuDNN chooses its kernels before they are recorded
                    eager.compute(pixels)
            compute.wait_stream(self._recording)
            graph = torch.cuda.CUDAGraph()
        except torch.OutOfMemoryError as error:
            log.warning("graph_left_out", batch=bucket, why=first_line(error))
            return None
        pool = next(iter(self._graphs.values()))[0].pool() if self._graphs else torch.cuda.graph_pool_handle()
        try:
            with torch.cuda.graph(graph, pool=pool, stream=self._recording):
                states = eager.compute(pixels)
        except torch.OutOfMemoryError as error:  # the capture ended cleanly; otherwise the error is another type
            log.warning("graph_left_out", batch=bucket, why=first_line(error))
            return None
        except RuntimeError as error:
            raise GraphError(f"a CUDA graph cannot be recorded: {first_line(error)}") from error
        return graph, pixels, states

    def __call__(self, crops: Crops) -> dict[str, Tensor]:
        count = len(crops)
        graph, pixels, states = self._graphs[bucket_for(count, self.buckets)]
        upload = self._uploads[self._turn]
        self._turn = 1 - self._turn
        upload.sent.synchronize()
        np.stack(crops, out=upload.pinned[:count].numpy())
        compute = torch.cuda.current_stream(self._device)
        self._copies.wait_event(upload.taken)
        with torch.cuda.stream(self._copies):
            upload.staged[:count].copy_(upload.pinned[:count], non_blocking=True)
        upload.sent.record(self._copies)
        compute.wait_event(upload.sent)
        pixels[:count].copy_(upload.staged[:count], non_blocking=True)
        upload.taken.record(compute)
        graph.replay()
        # The next replay overwrites the graphs' outputs.
        return {name: values[:count].clone() for name, values in states.items()}


def bucket_for(count: int, buckets: Sequence[int]) -> int:
    """The smallest of `buckets` that is at least `count`."""
    return next(bucket for bucket in buckets if bucket >= count)


def padded(crops: Crops, size: int) -> npt.NDArray[np.uint8]:
    """N crops as (size, ...) uint8, zero-padded."""
    batch = np.zeros((size, *crops[0].shape), np.uint8)
    np.stack(crops, out=batch[: len(crops)])
    return batch


def batch_sizes(device: torch.device) -> tuple[int, ...]:
    """The batch sizes to warm up, ascending; the last is the maximum."""
    return CPU_BUCKETS if device.type == "cpu" else CUDA_BUCKETS


def frame_pass(
    normalise: Normalise,
    backbones: Mapping[str, nn.Module],
    heads: Heads,
    crop_shape: tuple[int, int, int],
    device: torch.device,
    dtype: torch.dtype,
    *,
    graphs: bool = True,
) -> FramePass:
    """The fastest pass that works on the device.  graphs: whether to try CUDA graphs.

    backbones: as trained; the pass runs copies in `dtype` on the device.
    Raises: OutOfDeviceMemoryError, GraphError.
    """
    with torch.inference_mode(), on_device(device):
        images = example_images(crop_shape, device, dtype)
        ready = {key: for_inference(backbone, images) for key, backbone in backbones.items()}
        eager = EagerPass(normalise, ready, heads, device, dtype)
        if device.type != "cuda" or not graphs:
            return eager
        recorded = GraphPass(eager, crop_shape, device)
        return recorded if agree(recorded, eager, crop_shape) else eager


def agree(recorded: FramePass, eager: FramePass, crop_shape: tuple[int, int, int]) -> bool:
    """Whether a pass equals the eager one, within tolerance, at each of its batch sizes.  Logs a difference."""
    rng = np.random.default_rng(0)
    for bucket in recorded.buckets:
        crops = list(rng.integers(0, 256, (bucket, *crop_shape), np.uint8))
        found, expected = recorded(crops), eager(crops)
        for name, values in expected.items():
            difference = float((found[name].float() - values.float()).abs().max())
            if not difference <= SAME * float(values.float().abs().max()):
                log.error("graphs_differ", member=name, batch=bucket, difference=difference, mode=eager.mode)
                return False
    return True


def example_images(crop_shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Zeros with the layout of a backbone's input: (N, C, H, W), channels-last, N the largest batch."""
    height, width, channels = crop_shape
    shape = (batch_sizes(device)[-1], channels, height, width)
    return torch.zeros(shape, device=device, dtype=dtype).to(memory_format=torch.channels_last)
