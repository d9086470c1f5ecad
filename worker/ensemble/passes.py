"""The frame pass: uint8 crops to every member's per-frame state, in the fastest way the device offers.

`EagerPass` is plain PyTorch and works everywhere; on a CPU its convolutions are fused.  `GraphPass` is for CUDA: crops
go up as bytes through pinned memory on a stream of their own, and each batch size is a CUDA graph recorded once, so
that the GPU never waits for Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from worker.ensemble.networks import Normalise
from worker.fused import can_fuse, for_inference

Crops = Sequence[npt.NDArray[np.uint8]]
Encode = Callable[[Tensor], Tensor]
Heads = Sequence[tuple[str, str, Encode]]  # member, its backbone, features -> states

CPU_BATCH = 32  # larger batches leave the cache and are slower
CUDA_BUCKETS = (1, 8, 32, 64, 128, 256)
CPU_BUCKETS = (1, CPU_BATCH)


class FramePass(Protocol):
    """N crops (size, size, C) uint8, N <= batch -> {member: (N, S)} on the device.

    buckets: batch sizes worth warming.
    """

    mode: str
    batch: int
    buckets: tuple[int, ...]

    def __call__(self, crops: Crops) -> dict[str, Tensor]: ...


class EagerPass:
    """Plain PyTorch, any batch size; `mode` says whether the backbones' convolutions are fused."""

    def __init__(
        self,
        normalise: Normalise,
        backbones: Mapping[str, nn.Module],
        heads: Heads,
        device: torch.device,
        dtype: torch.dtype,
        mode: str,
    ) -> None:
        self.mode = mode
        self._normalise = normalise
        self._backbones = backbones
        self._heads = heads
        self._device = device
        self._dtype = dtype
        self.buckets: tuple[int, ...] = batch_sizes(device)
        self.batch = self.buckets[-1]

    def __call__(self, crops: Crops) -> dict[str, Tensor]:
        return self.compute(torch.from_numpy(np.stack(crops)).to(self._device))

    def compute(self, pixels: Tensor) -> dict[str, Tensor]:
        """Pixels (N, size, size, C) uint8 on the device -> {member: (N, S)}."""
        images = self._normalise(pixels).to(self._dtype)
        features = {key: backbone(images) for key, backbone in self._backbones.items()}
        return {name: encode(features[key]) for name, key, encode in self._heads}


class GraphPass:
    """CUDA graphs, one a batch size; smaller batches are padded up to the next.

    Two pinned buffers take turns: while the GPU reads one, the next batch is copied into the other.
    """

    mode = "cuda-graphs"

    def __init__(self, eager: EagerPass, crop_shape: tuple[int, int, int], device: torch.device) -> None:
        self.batch = CUDA_BUCKETS[-1]
        self.buckets: tuple[int, ...] = CUDA_BUCKETS
        self._device = device
        self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pinned = [torch.zeros((self.batch, *crop_shape), dtype=torch.uint8).pin_memory() for _ in range(2)]
        self._free = [torch.cuda.Event() for _ in self._pinned]  # type: ignore[no-untyped-call]
        self._turn = 0
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, dict[str, Tensor]]] = {}
        for bucket in reversed(CUDA_BUCKETS):  # the largest first: smaller graphs then reuse its memory
            self._graphs[bucket] = self._record(eager, bucket, crop_shape)

    def _record(
        self, eager: EagerPass, bucket: int, crop_shape: tuple[int, int, int]
    ) -> tuple[torch.cuda.CUDAGraph, Tensor, dict[str, Tensor]]:
        pixels = torch.zeros((bucket, *crop_shape), dtype=torch.uint8, device=self._device)
        side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):
            for _ in range(3):  # lets cuDNN choose its kernels before they are recorded
                eager.compute(pixels)
        torch.cuda.current_stream(self._device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            states = eager.compute(pixels)
        return graph, pixels, states

    def __call__(self, crops: Crops) -> dict[str, Tensor]:
        count = len(crops)
        graph, pixels, states = self._graphs[self._bucket(count)]
        pinned, free = self._pinned[self._turn], self._free[self._turn]
        self._turn = 1 - self._turn
        free.synchronize()
        np.stack(crops, out=pinned[:count].numpy())
        compute = torch.cuda.current_stream(self._device)
        self._copies.wait_stream(compute)  # the graph before must have read its pixels
        with torch.cuda.stream(self._copies):
            pixels[:count].copy_(pinned[:count], non_blocking=True)
            free.record(self._copies)
        compute.wait_stream(self._copies)
        graph.replay()
        # The graph's outputs are overwritten by its next replay.
        return {name: values[:count].clone() for name, values in states.items()}

    def _bucket(self, count: int) -> int:
        return next(bucket for bucket in self.buckets if bucket >= count)


def batch_sizes(device: torch.device) -> tuple[int, ...]:
    """The batch sizes worth warming, ascending; the last is the largest in use."""
    return CPU_BUCKETS if device.type == "cpu" else CUDA_BUCKETS


def frame_pass(
    normalise: Normalise,
    backbones: Mapping[str, nn.Module],
    heads: Heads,
    crop_shape: tuple[int, int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> FramePass:
    """The fastest pass that works on the device; where recording a graph fails, the eager one.

    backbones: as trained; what runs are copies in `dtype` on the device.
    """
    with torch.inference_mode():
        images = example_images(crop_shape, device, dtype)
        ready = {key: for_inference(backbone, images) for key, backbone in backbones.items()}
        eager = EagerPass(normalise, ready, heads, device, dtype, "fused" if can_fuse(device, dtype) else "eager")
        if device.type != "cuda":
            return eager
        torch.backends.cudnn.benchmark = True
        try:
            return GraphPass(eager, crop_shape, device)
        except RuntimeError:  # not every driver and library supports capture; eager computes the same
            torch.cuda.synchronize(device)
            return eager


def example_images(crop_shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Images as a full batch brings them to a backbone: (N, C, H, W), channels-last in memory."""
    height, width, channels = crop_shape
    shape = (batch_sizes(device)[-1], channels, height, width)
    return torch.zeros(shape, device=device, dtype=dtype).to(memory_format=torch.channels_last)
