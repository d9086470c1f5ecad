"""Supervisor of one worker for each device of a host: starts, restarts and stops them.

This process does not use CUDA or import torch: a failed GPU ends its own worker and no other.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

import structlog

from worker.process.orphan_guard import child_environment
from worker.settings import ALL_DEVICES

CHECK_S = 0.2
FIRST_PAUSE_S = 1.0  # backoff before a restart; doubles with each failure ...
LONGEST_PAUSE_S = 60.0  # ... up to this
STEADY_S = 60.0  # a worker that ran longer is restarted at once
CANNOT_SERVE = 78  # EX_CONFIG: exit status of a worker that a restart would not help
REASON_BYTES = 4096

# Runs in a separate process, since the query may create a CUDA context.
COUNT = "import torch; print(torch.__version__, torch.cuda.device_count() if torch.cuda.is_available() else 0)"

log = structlog.get_logger(__name__)


class SupervisorError(Exception):
    """There is nothing to supervise; the message is the reason, for the operator."""


class NoDevicesError(SupervisorError):
    """There is no GPU."""


class NoWorkersError(SupervisorError):
    """No worker can serve, and restarts would not help."""


@dataclass
class _Worker:
    """A device's worker.  started, due: monotonic seconds of its last start and next one.  failures: consecutive.

    reason: descriptor of a pipe on which the worker writes why it cannot serve.  refusal: the last such reason, or "".
    """

    device: str
    process: subprocess.Popen[bytes] | None = None
    reason: int = -1
    refusal: str = ""
    started: float = 0.0
    failures: int = 0
    due: float = 0.0


def cuda_devices() -> list[str]:
    """Every GPU that PyTorch finds, `cuda:0` first.  Raises: NoDevicesError."""
    command = [sys.executable, "-c", COUNT]
    asked = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 (our own words)
    version, _, count = asked.stdout.strip().rpartition(" ")
    if asked.returncode or not int(count):
        raise NoDevicesError(f"MIEN_DEVICE={ALL_DEVICES}, but PyTorch {version} sees no CUDA device")
    return [f"cuda:{index}" for index in range(int(count))]


def worker_command(concurrency: int) -> list[str]:
    """The command of a worker; the caller appends the descriptor for its reason."""
    return [sys.executable, "-m", "worker", "run", "--concurrency", str(concurrency), "--supervised"]


def supervise(devices: Sequence[str], command: Sequence[str], on_stop: Callable[[], None] = lambda: None) -> None:
    """Keep the command running for each device, named in its `MIEN_DEVICE`, until SIGTERM or SIGINT.

    A worker that ends with `CANNOT_SERVE` writes the reason to the descriptor that is its last argument.
    on_stop: called on the signal.  Returns when all workers have ended.  Raises: NoWorkersError if all ended so.
    """
    told: list[float] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        told.append(time.monotonic())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    workers = [_Worker(device) for device in devices]
    while not told:
        for worker in workers:
            _look_after(worker, command)
        if all(worker.refusal and worker.process is None for worker in workers):
            raise NoWorkersError("; ".join(dict.fromkeys(worker.refusal for worker in workers)))
        time.sleep(CHECK_S)
    on_stop()
    passed_on = 0
    running = [worker.process for worker in workers if worker.process is not None]
    while any(process.poll() is None for process in running):
        if passed_on < len(told):  # each signal is forwarded; a second one ends workers at once
            passed_on = len(told)
            for process in running:
                process.terminate()
        time.sleep(CHECK_S)
    log.info("supervisor_stopped")


def _look_after(worker: _Worker, command: Sequence[str]) -> None:
    now = time.monotonic()
    if worker.process is not None:
        status = worker.process.poll()
        if status is None:
            return
        steady = now - worker.started > STEADY_S
        worker.failures = 0 if steady else worker.failures + 1
        pause = 0.0 if steady else min(FIRST_PAUSE_S * 2 ** (worker.failures - 1), LONGEST_PAUSE_S)
        worker.refusal = _reason(worker.reason, status)
        if worker.refusal:  # others may serve, and an operator may fix it
            pause = LONGEST_PAUSE_S
        worker.process, worker.due = None, now + pause
        log.warning("worker_died", device=worker.device, status=status, again_in_s=pause, why=worker.refusal)
    if now >= worker.due:
        worker.reason, theirs = os.pipe()
        worker.process = subprocess.Popen(  # noqa: S603 (our own)
            [*command, str(theirs)], env=child_environment() | {"MIEN_DEVICE": worker.device}, pass_fds=[theirs]
        )
        os.close(theirs)
        worker.started = now
        log.info("worker_started", device=worker.device, pid=worker.process.pid)


def _reason(descriptor: int, status: int) -> str:
    """The reason why an ended worker cannot serve, "" if a restart may help."""
    os.set_blocking(descriptor, False)  # a child of the worker may still hold the other end
    try:
        said = os.read(descriptor, REASON_BYTES).decode(errors="replace")
    except BlockingIOError:
        said = ""
    finally:
        os.close(descriptor)
    return (said or "it cannot serve") if status == CANNOT_SERVE else ""
