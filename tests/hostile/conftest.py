"""What hostile inputs are watched with: canaries that are not to be read, a port that is not to be reached, memory.

Every group of tests labels a good clip before and after: hostile inputs cost no other job anything.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.listener import Listener
from tests.service import Api

if TYPE_CHECKING:
    import httpx

    from tests.service import Clips, Service

# Every job must end within this.  On two idle cores the longest takes 4 s including its upload.
WITHIN_S = 30
IN_OPEN, IN_ACCESS = 0x20, 0x01
SAMPLE_S = 0.01


class Canary:
    """A clip that FFmpeg would gladly play, and whether anybody opened it."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        path.write_bytes(content)
        libc = ctypes.CDLL(None, use_errno=True)
        self._events = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert libc.inotify_add_watch(self._events, os.fsencode(path), IN_OPEN | IN_ACCESS) >= 0

    def was_touched(self) -> bool:
        """Since it was made, or last asked."""
        with suppress(BlockingIOError):
            return bool(os.read(self._events, 65536))
        return False

    def close(self) -> None:
        os.close(self._events)


@pytest.fixture
def canary(tmp_path: Path, clips: Clips) -> Iterator[Canary]:
    watched = Canary(tmp_path / "canary.mp4", clips.video(clips.pictures(3, (176, 144))))
    yield watched
    watched.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listening = Listener()
    yield listening
    listening.close()


@contextmanager
def memory(service: Service, front_end_mib: int, worker_mib: int) -> Iterator[None]:
    """Limit the growth of front end and worker, including all child processes, inside the block."""
    watched = {"api": front_end_mib, "worker": worker_mib}
    before = {name: _rss(service.process(name).pid) for name in watched}
    peaks = dict(before)
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_S):
            for name in watched:
                peaks[name] = max(peaks[name], _rss(service.process(name).pid))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    grown = {name: (peaks[name] - before[name]) / 2**20 for name in watched}
    assert all(grown[name] <= most for name, most in watched.items()), grown


def _rss(pid: int) -> int:
    """Memory of a process and its children that is theirs alone or shared between them, bytes: shared counts once."""
    total = 0
    with suppress(FileNotFoundError, ProcessLookupError):
        total += _pss(pid)
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                total += _rss(int(child))
    return total


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


class HostileApi(Api):
    """A malicious client."""

    def ended(self, job_id: str) -> dict[str, Any]:
        began = time.monotonic()
        job = super().ended(job_id)
        assert time.monotonic() - began < WITHIN_S
        return job

    def fails(self, content: bytes, *codes: str) -> dict[str, Any]:
        """Submit; the Job, once it has failed in time with one of these codes and with a clear reason."""
        job = self.ended(self.submit(content)["id"])
        assert job["state"] == "failed", job
        assert job["error"]["code"] in codes, job["error"]
        assert job["error"]["detail"]
        assert "/" not in job["error"]["detail"]
        return job

    def refused(self, answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
        """The problem, as which the answer must have come."""
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = answer.json()
        assert problem["code"] == code
        return problem

    def upload(self, content: bytes, name: str = "clip.mp4", **more: Any) -> httpx.Response:
        return self.http.post("/v1/jobs", files={"file": (name, content, "video/mp4")}, **more)


@pytest.fixture
def hostile(api: Api) -> HostileApi:
    return HostileApi(api.http, api.service)


@pytest.fixture(scope="module", autouse=True)
def _no_harm(service: Service, clips: Clips) -> Iterator[None]:
    """A good clip has the same results before and after a group of tests, from the same loaded model."""
    import httpx

    clip = clips.video(clips.pictures(12))
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as http:
        api = Api(http, service)
        _, before = api.label(clip)
        loads, worker = service.model_loads(), service.process("worker").pid
        yield
        _, after = api.label(clip)
    assert after == before
    assert (service.model_loads(), service.process("worker").pid) == (loads, worker)
    service.process("worker").check()
    service.process("api").check()
