"""Workers of several devices: started, started again when they die, stopped together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.waiting import until
from worker.process.supervisor import NoDevicesError, cuda_devices, worker_command

ROOT = Path(__file__).parents[3]
PATIENCE_S = 20

WORKER = """
import os, signal, sys, time
folder, told = sys.argv[1], []
def stop(*_):
    told.append(1)
    if sys.argv[2] == "obeys" or len(told) == 2:
        os._exit(0)
signal.signal(signal.SIGTERM, stop)
open(os.path.join(folder, f"{os.environ['MIEN_DEVICE']} {os.getpid()}"), "w").close()
while True:
    time.sleep(0.05)
"""

SUPERVISOR = """
import sys
from worker.process import supervisor
supervisor.CHECK_S = supervisor.FIRST_PAUSE_S = 0.05
supervisor.supervise(["one", "two"], [sys.executable, "-c", *sys.argv[1:]])
assert "torch" not in sys.modules
"""


def pids(folder: Path, device: str) -> list[int]:
    """Every process that ever ran for the device."""
    return [int(path.name.split()[1]) for path in folder.iterdir() if path.name.startswith(f"{device} ")]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@contextmanager
def supervisor(folder: Path, manner: str) -> Iterator[subprocess.Popen[bytes]]:
    """A supervisor of two devices whose workers run."""
    command = [sys.executable, "-c", SUPERVISOR, WORKER, str(folder), manner]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            until(lambda: bool(pids(folder, "one") and pids(folder, "two")))
            yield process
        finally:
            process.kill()
            for pid in filter(alive, pids(folder, "one") + pids(folder, "two")):
                os.kill(pid, signal.SIGKILL)


def test_sigterm_stops_all(tmp_path: Path) -> None:
    """The signal is passed on, and the supervisor ends after its workers, which it never imported torch for."""
    with supervisor(tmp_path, "obeys") as process:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        assert not any(alive(pid) for pid in pids(tmp_path, "one") + pids(tmp_path, "two"))


def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    """Another takes its place on the same device, again and again, and its neighbour is left alone."""
    with supervisor(tmp_path, "obeys") as process:
        for times in (1, 2):
            (running,) = filter(alive, pids(tmp_path, "one"))
            os.kill(running, signal.SIGKILL)
            until(lambda times=times: len(pids(tmp_path, "one")) == times + 1)  # type: ignore[misc]
        assert len(pids(tmp_path, "two")) == 1
        assert process.poll() is None


def test_a_second_signal_is_passed_on(tmp_path: Path) -> None:
    """Workers that take their time after the first signal get the second, too."""
    with supervisor(tmp_path, "hesitates") as process:
        process.terminate()
        time.sleep(0.3)
        assert process.poll() is None
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


REFUSING = """
import os, sys, time
told = sys.argv[1] if os.environ["MIEN_DEVICE"] == "one" else sys.argv[2]
open(os.path.join(sys.argv[3], f"{os.environ['MIEN_DEVICE']} {os.getpid()}"), "w").close()
if told == "serves":
    time.sleep(60)
os.write(int(sys.argv[4]), told.encode())
sys.exit(78)
"""


@pytest.mark.parametrize(("two", "line"), [("broken", "broken"), ("damaged", "broken; damaged")])
def test_workers_that_cannot_serve_end_it(tmp_path: Path, two: str, line: str) -> None:
    """If no restart can help, the supervisor ends with the workers' reasons, each once."""
    command = [sys.executable, "-c", SUPERVISOR, REFUSING, "broken", two, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"worker.process.supervisor.NoWorkersError: {line}"
    assert [len(pids(tmp_path, device)) for device in ("one", "two")] == [1, 1]


def test_one_that_cannot_serve_ends_no_other(tmp_path: Path) -> None:
    """It is retried with backoff, while the others serve."""
    impatient = SUPERVISOR.replace("FIRST_PAUSE_S =", "FIRST_PAUSE_S = supervisor.LONGEST_PAUSE_S =")
    command = [sys.executable, "-c", impatient, REFUSING, "serves", "broken", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: len(pids(tmp_path, "two")) >= 3)
            assert process.poll() is None
            assert len(pids(tmp_path, "one")) == 1
        finally:
            process.terminate()


def test_without_a_gpu_cuda_all_says_so(redis_url: str) -> None:
    """`MIEN_DEVICE=cuda:all` without CUDA is an error in one line, never a silent CPU."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "MIEN_DEVICE": "cuda:all", "MIEN_REDIS_URL": redis_url}
    command = [sys.executable, "-m", "worker", "run"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MIEN_DEVICE=cuda:all, but PyTorch" in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error")]) == 1


def test_counting_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each GPU is a device; a PyTorch that cannot be asked is as good as none."""
    monkeypatch.setattr("worker.process.supervisor.COUNT", "print('2.0', 3)")
    assert cuda_devices() == ["cuda:0", "cuda:1", "cuda:2"]
    for answer in ("print('2.0', 0)", "raise SystemExit(1)"):
        monkeypatch.setattr("worker.process.supervisor.COUNT", answer)
        with pytest.raises(NoDevicesError, match="no CUDA device"):
            cuda_devices()


def test_each_worker_has_its_jobs() -> None:
    """Concurrency is a worker's own, and none of them draws videos."""
    assert worker_command(3)[-4:] == ["run", "--concurrency", "3", "--supervised"]
