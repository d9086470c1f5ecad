"""The number format in which the ensemble computes."""

from __future__ import annotations

from typing import Literal

from worker.core.devices import BF16_FLAGS, INT8_FLAGS, cpu_has, is_gpu

Precision = Literal["fp32", "bf16", "fp16", "int8"]


class PrecisionError(Exception):
    """The device or the bundle does not support the requested precision."""


def choose_precision(wanted: Literal["auto"] | Precision, device: str, *, int8: bool) -> Precision:
    """`auto`: on a CPU int8, else bf16, else fp32; on a GPU bf16, else fp32: what its instructions support.

    int8: whether the bundle's int8 graph gives nearly the same labels, so that `auto` may choose it.
    Raises: PrecisionError for fp16 on a CPU, int8 on a GPU, or what the hardware lacks.
    """
    return _for_gpu(wanted, device) if is_gpu(device) else _for_cpu(wanted, int8=int8)


def _for_cpu(wanted: Literal["auto"] | Precision, *, int8: bool) -> Precision:
    if wanted == "auto" and int8 and cpu_has(INT8_FLAGS):
        return "int8"
    if wanted == "auto":
        return "bf16" if cpu_has(BF16_FLAGS) else "fp32"
    if wanted == "fp16":
        raise PrecisionError("fp16 needs a GPU; on a CPU choose fp32, bf16, int8 or auto")
    if wanted == "int8":
        require_int8()
    return wanted


def require_int8() -> None:
    """Raises: PrecisionError on a processor that computes int8 inexactly."""
    if not cpu_has(INT8_FLAGS):
        raise PrecisionError("int8 needs a processor with VNNI, without which labels change; choose fp32 or auto")


def _for_gpu(wanted: Literal["auto"] | Precision, device: str) -> Precision:
    from worker.core import cuda  # noqa: PLC0415  # loads torch

    if wanted == "int8":
        raise PrecisionError("int8 is for CPUs; on a GPU choose bf16, fp16, fp32 or auto")
    native = cuda.has_bf16(device)
    if wanted == "bf16" and not native:
        raise PrecisionError(f"{device} has no bf16; choose fp16, fp32 or auto")
    return ("bf16" if native else "fp32") if wanted == "auto" else wanted
