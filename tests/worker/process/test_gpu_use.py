"""GPU figures from the driver, replaced by a fake; with a GPU from the real driver."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from worker.process.gpu_use import GpuUse

CUDA = "cuda:0"


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A GPU of 8 GiB that is half busy, of which this process holds one; `asked` has what was asked of the driver."""
    asked: dict[str, Any] = {}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1-2-3"))
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: asked.update(uuid=uuid) or "handle")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda handle: SimpleNamespace(total=8 * 2**30))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", lambda handle: SimpleNamespace(gpu=50))
    return asked


def test_a_gpu_is_measured(played: dict[str, Any]) -> None:
    """By its UUID, since CUDA and the driver count GPUs differently."""
    measured = GpuUse(lambda: CUDA).measure()
    assert measured == {"gpu_memory_bytes": 2**30, "gpu_memory_total_bytes": 8 * 2**30, "gpu_utilisation": 0.5}
    assert played["uuid"] == "GPU-1-2-3"


def test_a_driver_that_does_not_tell(played: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library, in a part of a GPU, or after a failure, what PyTorch knows is told."""

    def fail(handle: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", fail)
    measured = GpuUse(lambda: CUDA).measure()
    assert (measured["gpu_memory_bytes"], measured["gpu_utilisation"]) == (2**30, None)


def test_without_cuda_nothing_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the driver nor the device is asked before CUDA is in use: processes are forked until then."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert GpuUse(lambda: pytest.fail("asked for a device")).measure() == {}


@pytest.mark.gpu
def test_a_real_gpu() -> None:
    """The driver tells of the GPU that PyTorch uses."""
    held = torch.zeros(2**20, device=CUDA)
    measured = GpuUse(lambda: CUDA).measure()
    assert 0 <= measured["gpu_utilisation"] <= 1
    assert held.nbytes <= measured["gpu_memory_bytes"] < measured["gpu_memory_total_bytes"]
