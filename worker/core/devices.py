"""What all that computes on a device minds: which GPU is the thread's own, exact arithmetic, and how devices fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


class OutOfDeviceMemoryError(Exception):
    """The device has no room even for the smallest piece of work."""


class DeviceLostError(Exception):
    """The device computes nothing any more for this process; another process may find it well."""


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Meanwhile the GPU is the calling thread's own.

    Every thread starts with the first GPU: streams, events, graphs and pinned memory that do not name another are that
    one's, and what is recorded or waited for on the wrong GPU is not there, without any error.
    """
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def prepare(device: torch.device) -> None:
    """Set what holds for the whole process, once a device is chosen."""
    if device.type == "cuda":
        # Else float32 convolutions are computed in TF32, with 10 bits, from Ampere on.
        torch.backends.cudnn.allow_tf32 = False
        # cuDNN's attention, which is preferred from Hopper on, makes a plan for every number of windows that is new.
        torch.backends.cuda.enable_cudnn_sdp(enabled=False)


@contextmanager
def choosing_kernels() -> Iterator[None]:
    """Meanwhile cuDNN measures for each new shape which kernel is fastest; always on, every new shape would wait."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def is_lost(error: BaseException, device: torch.device) -> bool:
    """Whether the device is to blame for an error, and every later call of this process would fail likewise."""
    if isinstance(error, DeviceLostError | torch.AcceleratorError):
        return True
    if device.type != "cuda":
        return False
    try:  # cuDNN and cuBLAS say it in their own words
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False


def first_line(error: BaseException) -> str:
    """What PyTorch says, without the advice and the stack that follow."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
