"""The number format in which the ensemble computes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from worker.core.devices import is_gpu

Precision = Literal["fp32", "bf16", "fp16", "int8"]
# Processors without these instructions emulate bfloat16 through float32, which is slower than float32 itself.
CPU_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


class PrecisionError(Exception):
    """The device does not support the requested precision."""


def choose_precision(wanted: Literal["auto"] | Precision, device: str) -> Precision:
    """`auto`: bf16 if the processor or GPU supports it natively, else fp32.

    Raises: PrecisionError for fp16 on a CPU, or bf16 on a GPU without it.
    """
    if not is_gpu(device):
        if wanted == "fp16":
            raise PrecisionError("fp16 needs a GPU; on a CPU choose fp32, bf16 or auto")
        return ("bf16" if cpu_has_bf16() else "fp32") if wanted == "auto" else wanted
    from worker.core import cuda  # noqa: PLC0415  # loads torch

    native = cuda.has_bf16(device)
    if wanted == "bf16" and not native:
        raise PrecisionError(f"{device} has no bf16; choose fp16, fp32 or auto")
    return ("bf16" if native else "fp32") if wanted == "auto" else wanted


def cpu_has_bf16() -> bool:
    """Whether the processor has instructions for bfloat16."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split()
    except (OSError, IndexError):  # not Linux, or a processor that lists features elsewhere
        return False
    return not CPU_BF16_FLAGS.isdisjoint(flags)
