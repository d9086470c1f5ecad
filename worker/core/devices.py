"""Devices by name (`cpu`, `cuda:0`), instruction sets, and errors of devices.

A worker on a CPU loads no torch; `cuda` has what needs it.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

CPU = "cpu"
# Processors without these instructions emulate bfloat16 through float32, which is slower than float32 itself.
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
# Processors without these saturate sums of products of bytes, which changes labels.
INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})
# What GPU drivers create: NVIDIA's, AMD's, and Windows' in its Linux.
GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


class DeviceError(Exception):
    """The requested device does not exist; the message lists those that do."""


class DeviceFailedError(Exception):
    """The device exists but has too little memory or fails; the message is the reason."""


class OutOfDeviceMemoryError(Exception):
    """The device has too little memory for the smallest batch."""


class DeviceLostError(Exception):
    """The device is unusable for this process; a new process may be able to use it."""


def is_gpu(device: str) -> bool:
    """Whether the name is that of a CUDA device."""
    return device.startswith("cuda")


def choose(wanted: str) -> str:
    """The device's full name.  wanted: `auto` for the first GPU, else the CPU.

    Outside Linux only PyTorch knows whether there is a GPU, so `auto` loads it; `cpu` never does.
    Raises: DeviceError if a requested GPU is missing.
    """
    if wanted == CPU or (wanted == "auto" and _no_gpu_here()):
        return CPU
    from worker.core import cuda  # noqa: PLC0415  # loads torch

    return cuda.first_gpu() or CPU if wanted == "auto" else cuda.named_gpu(wanted)


def cpu_has(flags: frozenset[str]) -> bool:
    """Whether the processor has one of these instruction sets, by Linux' names; False where it lists none."""
    return not flags.isdisjoint(cpu_flags())


@cache
def cpu_flags() -> frozenset[str]:
    """The processor's instruction sets, by Linux' names; empty where it lists none."""
    try:
        return frozenset(Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split())
    except (OSError, IndexError):  # not Linux, or a processor that lists features elsewhere
        return frozenset()


def is_lost(error: BaseException, device: str) -> bool:
    """Whether the error means that the device is unusable for the rest of this process."""
    if isinstance(error, DeviceLostError):
        return True
    if "torch" not in sys.modules:
        return False
    from worker.core import cuda  # noqa: PLC0415

    return cuda.fails_for_good(error, device)


def first_line(error: BaseException) -> str:
    """The first line of PyTorch's message, without the advice and stack after it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _no_gpu_here() -> bool:
    return sys.platform == "linux" and not any(Path(file).exists() for file in GPU_FILES)
