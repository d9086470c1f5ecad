"""The number format in which the ensemble computes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Processors without these instructions emulate bfloat16 through float32, which is slower than float32 itself.
CPU_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


class PrecisionError(Exception):
    """The device does not support the requested precision."""


def choose_precision(wanted: Literal["auto"] | Precision, device: torch.device) -> Precision:
    """`auto`: bf16 if the processor or GPU supports it natively, else fp32.

    Raises: PrecisionError for fp16 on a CPU, or bf16 on a GPU without it.
    """
    native = has_native_bf16(device)
    if wanted == "auto":
        return "bf16" if native else "fp32"
    if wanted == "fp16" and device.type == "cpu":
        raise PrecisionError("fp16 needs a GPU; on a CPU choose fp32, bf16 or auto")
    if wanted == "bf16" and device.type == "cuda" and not native:
        raise PrecisionError(f"{torch.cuda.get_device_name(device)} has no bf16; choose fp16, fp32 or auto")
    return wanted


def has_native_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split()
    except (OSError, IndexError):  # not Linux, or a processor that lists features elsewhere
        return False
    return not CPU_BF16_FLAGS.isdisjoint(flags)
