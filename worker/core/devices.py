"""Device guards shared by every stage: the thread's current GPU, exact float32 arithmetic, lost devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


class OutOfDeviceMemoryError(Exception):
    """The device has too little memory for the smallest batch."""


class DeviceLostError(Exception):
    """The device is unusable for this process; a new process may be able to use it."""


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Make `device` the calling thread's current CUDA device inside the block.

    CUDA's current device is per-thread and defaults to cuda:0.  Streams, events, graphs and pinned memory belong to it
    unless they name another; recording or waiting on the wrong device has no effect and raises no error.
    """
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def prepare(device: torch.device) -> None:
    """Set the process-wide flags for the chosen device."""
    if device.type == "cuda":
        # From Ampere on, cuDNN computes float32 convolutions in TF32, with a 10-bit mantissa, by default.
        torch.backends.cudnn.allow_tf32 = False
        # cuDNN's attention, the default from Hopper on, builds a new plan for every new number of windows.
        torch.backends.cuda.enable_cudnn_sdp(enabled=False)


@contextmanager
def choosing_kernels() -> Iterator[None]:
    """Let cuDNN benchmark kernels for each new shape inside the block; elsewhere a new shape must not wait for it."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def is_lost(error: BaseException, device: torch.device) -> bool:
    """Whether the error means that the device is unusable for the rest of this process."""
    if isinstance(error, DeviceLostError | torch.AcceleratorError):
        return True
    if device.type != "cuda":
        return False
    try:  # cuDNN and cuBLAS raise other exception types
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False


def first_line(error: BaseException) -> str:
    """The first line of PyTorch's message, without the advice and stack after it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
