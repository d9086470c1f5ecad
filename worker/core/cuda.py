"""PyTorch's side of a GPU: the thread's current device, exact float32 arithmetic, lost devices, formats.

Importing this module loads torch, which a worker on a CPU does not need: `worker.core.devices` has what both need.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from worker.core.devices import DeviceError, OutOfDeviceMemoryError, is_gpu


def on_device(device: torch.device | str) -> AbstractContextManager[object]:
    """Make `device` the calling thread's current CUDA device inside the block.

    CUDA's current device is per-thread and defaults to cuda:0.  Streams, events, graphs and pinned memory belong to it
    unless they name another; recording or waiting on the wrong device has no effect and raises no error.
    """
    device = torch.device(device)
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def prepare(device: torch.device | str) -> None:
    """Set the process-wide flags for the chosen device."""
    if torch.device(device).type == "cuda":
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


@contextmanager
def out_of_memory(why: str) -> Iterator[None]:
    """Turn PyTorch's error of a full device inside the block into OutOfDeviceMemoryError with this message."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise OutOfDeviceMemoryError(why) from None


def first_gpu() -> str | None:
    """The first GPU, None without one."""
    return "cuda:0" if torch.cuda.is_available() else None


def named_gpu(wanted: str) -> str:
    """The full name of a device that PyTorch knows.  Raises: DeviceError if it is missing."""
    device = torch.device(wanted)
    if device.type != "cuda":
        return str(device)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise DeviceError(f"MIEN_DEVICE={wanted}, but PyTorch {torch.__version__} sees {_what_is_there(count)}")
    return f"cuda:{device.index or 0}"


def has_bf16(device: str) -> bool:
    """Whether the GPU has instructions for bfloat16."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


def fails_for_good(error: BaseException, device: str) -> bool:
    """Whether the error means that the device is unusable for the rest of this process."""
    if isinstance(error, torch.AcceleratorError):
        return True
    if not is_gpu(device):
        return False
    try:  # cuDNN and cuBLAS raise other exception types
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False


def give_back_memory() -> None:
    """Return unreferenced memory to the GPU, and pinned memory to the system."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
        torch.accelerator.empty_host_cache()


def _what_is_there(count: int) -> str:
    if count:
        return f"{count} CUDA devices"
    if not torch.version.cuda:
        return "no CUDA device: it is a build without CUDA"
    return f"no CUDA device: is one there, and its driver new enough for CUDA {torch.version.cuda}?"
