"""Devices: selection of a device other than the first, and messages for failed devices."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from app.contract import keys
from worker import commands
from worker.core import cuda, devices
from worker.core.devices import DeviceFailedError
from worker.core.records import Image
from worker.ensemble.passes import GraphError
from worker.errors import CommandError, StartAgainError
from worker.faces.networks import FaceNetwork
from worker.faces.networks.cells import Array, together
from worker.faces.scanning import Scanner
from worker.inference import serving
from worker.inference.torch_loading import explained
from worker.process import worker_main
from worker.settings import WorkerSettings

SECOND = "cuda:1"


@pytest.mark.gpu
def test_a_gpu_is_chosen_and_left_again() -> None:
    """Meanwhile it is the thread's own, and afterwards the former one is."""
    last = torch.cuda.device_count() - 1
    with cuda.on_device(torch.device("cuda", last)):
        assert torch.cuda.current_device() == last
        with cuda.on_device(torch.device("cpu")):
            assert torch.cuda.current_device() == last
    assert torch.cuda.current_device() == 0


LOSING = """
import torch
from worker.core.devices import is_lost
device = "cuda:0"
assert not is_lost(RuntimeError("shapes do not match"), device)
table = torch.zeros(3, device=device)
try:
    table[torch.tensor([7], device=device)].cpu()
except RuntimeError as error:
    assert is_lost(error, device)
    assert is_lost(RuntimeError("CUDNN_STATUS_EXECUTION_FAILED"), device)
else:
    raise SystemExit("nothing went wrong")
"""


@pytest.mark.gpu
def test_a_gpu_that_was_lost_is_told_from_one_that_was_not() -> None:
    """An index out of range ends a process's GPU: a real one, so in a process of its own."""
    ended = subprocess.run([sys.executable, "-c", LOSING], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_arithmetic_on_a_gpu_is_exact() -> None:
    """float32 is float32, whatever others have set before."""
    with torch.backends.cudnn.flags(allow_tf32=True):
        cuda.prepare(SECOND)
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]


def test_kernels_are_chosen_for_a_while_only() -> None:
    """Whatever happens meanwhile."""
    with suppress(KeyError), cuda.choosing_kernels():
        assert torch.backends.cudnn.benchmark
        raise KeyError
    assert not torch.backends.cudnn.benchmark


def test_a_lost_device_is_told_from_other_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries above CUDA have errors of their own, so the GPU is asked whether it still computes."""
    answers: list[RuntimeError | None] = [None, torch.AcceleratorError("CUDA error: unspecified launch failure")]

    def synchronize(device: str) -> None:
        if (error := answers.pop(0)) is not None:
            raise error

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    assert devices.is_lost(torch.AcceleratorError("CUDA error"), SECOND)
    assert not devices.is_lost(RuntimeError("shapes do not match"), SECOND)
    assert devices.is_lost(RuntimeError("CUDNN_STATUS_EXECUTION_FAILED"), SECOND)
    assert not devices.is_lost(RuntimeError("shapes do not match"), "cpu")


@pytest.mark.parametrize(
    ("error", "becomes", "says"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), DeviceFailedError, "cpu has no memory for the bundle"),
        (torch.AcceleratorError("CUDA error: no\nadvice"), DeviceFailedError, "cpu fails: CUDA error: no"),
        (GraphError("a CUDA graph cannot be recorded: no"), StartAgainError, "a CUDA graph cannot be recorded: no"),
    ],
)
def test_a_device_that_fails_while_loading(error: Exception, becomes: type[Exception], says: str) -> None:
    """It is one sentence; where graphs are the cause, the same command starts again without."""
    with pytest.raises(becomes, match=says) as caught, explained("cpu"):
        raise error
    if isinstance(caught.value, StartAgainError):
        assert caught.value.environment == {"MIEN_CUDA_GRAPHS": "false"}
        assert not WorkerSettings(cuda_graphs=caught.value.environment["MIEN_CUDA_GRAPHS"]).cuda_graphs


def test_a_command_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same process, so that its parent notices nothing."""
    started: list[Any] = []

    def command() -> None:
        raise StartAgainError("no graphs here", {"MIEN_CUDA_GRAPHS": "false"})

    monkeypatch.setattr(commands, "import_module", lambda _: type("Module", (), {"command": staticmethod(command)}))
    monkeypatch.setattr(os, "execve", lambda *given: started.append(given))
    monkeypatch.setattr(sys, "argv", ["worker", "bench"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "worker", "bench"])
    commands.main()
    ((program, words, environment),) = started
    assert (program, words) == (sys.executable, [sys.executable, "-m", "worker", "bench"])
    assert environment["MIEN_CUDA_GRAPHS"] == "false"


class Room:
    """A detector's network that has memory for so many frames at once, and finds nothing."""

    kind = FaceNetwork("room", lambda *_: together(()), 0.5, 0.3)

    def __init__(self, room: int) -> None:
        self.room, self.sizes = room, list[int]()

    def maps(self, pixels: npt.NDArray[np.uint8]) -> list[Array]:
        self.sizes.append(len(pixels))
        if len(pixels) > self.room:
            raise devices.OutOfDeviceMemoryError("no memory")
        return []


def test_a_detector_without_memory_looks_at_fewer_frames() -> None:
    """Every frame is examined; a lack of memory is reported as such."""
    room = Room(3)
    scanner = Scanner(room, 16)
    frames: list[Image] = [np.zeros((32, 32, 3), np.uint8)] * 7
    assert len(scanner.detect(frames, None)) == 7
    assert room.sizes == [7, 3, 4, 2, 2]
    room.room = 0
    with pytest.raises(devices.OutOfDeviceMemoryError):
        scanner.detect(frames, None)


class Loaded:
    """What an unloader keeps."""

    class _Pipeline:
        detector_name = "none"

        class engine:  # noqa: N801
            mode = "openvino"

            @staticmethod
            def close() -> None: ...

            @staticmethod
            def stop() -> None: ...

    class _Manifest:
        version = "1"

    manifest, pipeline, device, precision = _Manifest, _Pipeline, "cpu", "fp32"


@pytest.mark.parametrize("fault", [None, devices.DeviceLostError("cuda:0 computes nothing any more")])
def test_a_worker_holds_nothing_and_ends_at_once_with_its_device(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception | None
) -> None:
    """Only the unloader holds the model; a process with a lost GPU does not clean up."""
    loaded: list[weakref.ref[Loaded]] = []
    ends: list[int] = []

    def load(*_: Any, **__: Any) -> Loaded:
        made = Loaded()
        loaded.append(weakref.ref(made))
        return made

    class Worker:
        """Takes no jobs."""

        def __init__(self, *arguments: Any) -> None:
            self.functions: dict[str, Any] = arguments[3]

        def stop(self) -> None: ...

        def serve(self) -> None:
            self.functions[keys.LABEL_FUNCTION].args[0].fault = fault
            deadline = threading.Event()
            for _ in range(200):
                if loaded[0]() is None or deadline.wait(0.1):
                    break
            assert loaded[0]() is None

    monkeypatch.setattr(serving, "load", load)
    monkeypatch.setattr(worker_main, "ResidentWorker", Worker)
    monkeypatch.setattr(os, "_exit", ends.append)
    settings = WorkerSettings(redis_url=redis_url, uploads=str(tmp_path), device="cpu", idle_release_s=0.05, stall_s=0)
    if fault is None:
        worker_main.serve(settings, "worker-of-the-test", lambda: None)
        assert ends == []
    else:
        with pytest.raises(CommandError):  # only since the end is not one here
            worker_main.serve(settings, "worker-of-the-test", lambda: None)
        assert ends == [70]
