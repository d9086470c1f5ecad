"""GPU memory and utilisation, from the NVIDIA driver and PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pynvml

from worker.core.devices import is_gpu

Measured = dict[str, Any]  # fields of WorkerInfo


class GpuUse:
    """Measures one device.  Values that the driver lacks (no driver, MIG, a failed GPU) are None or left out."""

    def __init__(self, choose: Callable[[], str]) -> None:
        """choose: returns the worker's device; called only after CUDA is initialised, never to initialise it."""
        self._choose = choose
        self._handle: Any = None

    def measure(self) -> Measured:
        """`gpu_memory_bytes` (what this process holds), `gpu_memory_total_bytes`, `gpu_utilisation` (0 to 1)."""
        torch = sys.modules.get("torch")  # a worker on a CPU has not loaded it
        if torch is None or not torch.cuda.is_initialized():
            return {}
        device = self._choose()
        if not is_gpu(device):
            return {}
        measured: Measured = {"gpu_memory_bytes": int(torch.cuda.memory_reserved(device))}
        try:
            if self._handle is None:
                pynvml.nvmlInit()
                # By UUID, since CUDA_VISIBLE_DEVICES changes CUDA's numbering but not the driver's.
                uuid = torch.cuda.get_device_properties(device).uuid
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            measured["gpu_memory_total_bytes"] = int(pynvml.nvmlDeviceGetMemoryInfo(self._handle).total)
            measured["gpu_utilisation"] = pynvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100
        except pynvml.NVMLError:
            measured["gpu_utilisation"] = None
        return measured
