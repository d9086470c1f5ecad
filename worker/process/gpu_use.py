"""How much of its GPU is used, as the NVIDIA driver and PyTorch tell it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pynvml
import torch

Measured = dict[str, Any]  # fields of WorkerInfo


class GpuUse:
    """Measures one device.  Where the driver does not tell (no driver, MIG, a GPU that fails) fields are None."""

    def __init__(self, choose: Callable[[], torch.device]) -> None:
        """choose: the worker's device, asked once CUDA is in use: before that it must not be touched."""
        self._choose = choose
        self._handle: Any = None

    def measure(self) -> Measured:
        """`gpu_memory_bytes` (what this process holds), `gpu_memory_total_bytes`, `gpu_utilisation` (0 to 1)."""
        if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            return {}
        device = self._choose()
        if device.type != "cuda":
            return {}
        measured: Measured = {"gpu_memory_bytes": int(torch.cuda.memory_reserved(device))}
        try:
            if self._handle is None:
                pynvml.nvmlInit()
                # By its UUID: CUDA_VISIBLE_DEVICES counts GPUs otherwise than the driver does.
                uuid = torch.cuda.get_device_properties(device).uuid
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            measured["gpu_memory_total_bytes"] = int(pynvml.nvmlDeviceGetMemoryInfo(self._handle).total)
            measured["gpu_utilisation"] = pynvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100
        except pynvml.NVMLError:
            measured["gpu_utilisation"] = None
        return measured
