"""The ensemble in PyTorch, for GPUs; tests run it on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from worker.core.cuda import choosing_kernels, give_back_memory, on_device, out_of_memory
from worker.ensemble.networks import Ensemble
from worker.ensemble.passes import FramePass, frame_pass
from worker.ensemble.precision import Precision
from worker.ensemble.runtime import Crops, Floats, Rows, Runtime, States
from worker.ensemble.streaming import stream_head

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NO_MEMORY_FOR_HEADS = "the device has no memory for the heads; free some of it"
STEP_FRAMES, CUDA_STEP_FRAMES = 32, 64  # a GPU needs less time for them


class TorchRuntime(Runtime[Tensor]):
    """See `Runtime`; on a GPU the next batch is launched before the results of the last one are fetched."""

    def __init__(
        self,
        ensemble: Ensemble,
        crop_shape: tuple[int, int, int],
        device: torch.device,
        precision: Precision,
        make_pass: Callable[..., FramePass] = frame_pass,
    ) -> None:
        """make_pass: factory with the parameters of `frame_pass`.

        Raises: OutOfDeviceMemoryError, GraphError.
        """
        self.device = device
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
        self.mode, self.batch = self._pass.mode, self._pass.batch
        cuda = device.type == "cuda"
        self.step_frames, self.ahead = (CUDA_STEP_FRAMES, 1) if cuda else (STEP_FRAMES, 0)
        self._warm = self._pass.buckets if cuda else self._pass.buckets[:1]

    @contextmanager
    def serving(self) -> Iterator[None]:
        """No gradients; the thread's current GPU."""
        with torch.inference_mode(), on_device(self.device):
            yield

    @contextmanager
    def warming_up(self) -> Iterator[Sequence[int]]:
        """Meanwhile kernels are chosen by measuring them."""
        with choosing_kernels():
            yield self._warm

    def encode(self, crops: Crops) -> States[Tensor]:
        """See `Runtime`."""
        with out_of_memory("the device has no memory for one face; free some of it"):
            return self._pass(crops)

    def indices(self, parts: Sequence[Rows]) -> list[Tensor]:
        """In one asynchronous copy."""
        with out_of_memory(NO_MEMORY_FOR_HEADS):
            return self._indices(parts) if parts else []

    def _indices(self, parts: Sequence[Rows]) -> list[Tensor]:
        together = torch.from_numpy(np.concatenate([part.ravel() for part in parts]))
        if self.device.type == "cuda":  # a copy from pageable memory would wait until the GPU is idle
            together = together.pin_memory()
        there = torch.split(together.to(self.device, non_blocking=True), [part.size for part in parts])
        return [rows.view(part.shape) for rows, part in zip(there, parts, strict=True)]

    def join(self, parts: Sequence[States[Tensor]]) -> States[Tensor]:
        """See `Runtime`."""
        with out_of_memory(NO_MEMORY_FOR_HEADS):
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def step(self, states: States[Tensor], keep: Tensor, windows: Tensor) -> tuple[States[Tensor], Tensor]:
        """See `Runtime`."""
        with out_of_memory(NO_MEMORY_FOR_HEADS):
            probabilities = []
            for name, _, head, temperature in self._members:
                logits = head.decode(states[name], windows)
                probabilities.append(torch.softmax(logits.float() / temperature, dim=-1))
            return {name: values[keep] for name, values in states.items()}, torch.stack(probabilities)

    def fetching(self, results: Sequence[Tensor]) -> Callable[[], list[Floats]]:
        """By asynchronous copies to pinned memory."""
        if self.device.type != "cuda":
            return lambda: [values.numpy() for values in results]
        with out_of_memory(NO_MEMORY_FOR_HEADS):
            hosts = [torch.empty(values.shape, dtype=values.dtype, pin_memory=True) for values in results]
            for host, values in zip(hosts, results, strict=True):
                host.copy_(values, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(torch.cuda.current_stream(self.device))

        def fetched() -> list[Floats]:
            done.synchronize()
            return [host.numpy() for host in hosts]

        return fetched

    def wait_for(self, states: States[Tensor]) -> None:
        """See `Runtime`."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def give_back_memory(self) -> None:
        """See `Runtime`."""
        give_back_memory()

    def close(self) -> None:
        """Nothing runs."""
