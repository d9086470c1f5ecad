"""Redis unreachable or full: the API reports it, no process exits, and every accepted job ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import redis

from tests.faults.conftest import FRAMES, Faulty
from tests.waiting import until

if TYPE_CHECKING:
    from tests.service import Clips, Record

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

AWAY_S = 3.0
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def working(faulty: Faulty) -> Faulty:
    """The service with one worker, which lives through everything here."""
    faulty.worker("worker")
    return faulty


def padded(video: bytes, size: int = 3 * 2**20) -> bytes:
    """An mp4 with a box of nothing behind it, so that half of it reaches the store."""
    return video + size.to_bytes(4, "big") + b"free" + bytes(size - 8)


class SlowUpload(threading.Thread):
    """An upload that is under way for as long as the test says; then `answer` is there."""

    def __init__(self, faulty: Faulty, content: bytes) -> None:
        super().__init__(daemon=True)
        self._url = f"{faulty.service.url}/v1/jobs"
        self._content = content
        self._go = threading.Event()
        self.answer: httpx.Response | None = None

    def run(self) -> None:
        def body() -> Iterator[bytes]:
            half = len(self._content) // 2
            yield self._content[:half]
            assert self._go.wait(60)
            yield self._content[half:]

        self.answer = httpx.post(self._url, content=body(), headers={"Content-Type": "video/mp4"}, timeout=60)

    def finish(self) -> httpx.Response:
        """Send the rest."""
        self._go.set()
        self.join(60)
        assert self.answer is not None
        return self.answer


def test_redis_restarted(working: Faulty, clip: bytes, clips: Clips) -> None:
    """During an outage: 503 problems.  After it the running and the queued job end completely, and uploads continue."""
    api = working.api
    running = api.running(api.submit(clip)["id"])
    waiting = api.submit(clips.video(clips.pictures(2)))
    interrupted, patient = (SlowUpload(working, padded(clip)) for _ in range(2))
    for upload in (interrupted, patient):
        upload.start()
    until(lambda: len([name for name in working.service.stored() if name.endswith(".part")]) == 2)
    pids = [working.service.process(name).pid for name in ("api", "worker")]
    working.stop_redis()
    away = time.monotonic()
    calls: tuple[Callable[[], httpx.Response], ...] = (
        lambda: api.http.get(f"/v1/jobs/{running['id']}"),
        lambda: api.http.post("/v1/jobs", content=clip, headers={"Content-Type": "video/mp4"}),
        interrupted.finish,
    )
    for call in calls:
        answer = call()
        assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM)
        assert answer.json()["code"] == "unavailable"
        assert answer.headers["retry-after"]
    assert api.http.get("/health/live").status_code == 200
    time.sleep(max(0, away + AWAY_S - time.monotonic()))
    working.start_redis()
    answer = patient.finish()
    assert answer.status_code == 202
    for job in (running, waiting, answer.json()):
        ended = api.ended(job["id"])
        assert (ended["state"], ended["error"]) == ("succeeded", None)
    frames = api.frames(running["id"], limit=1000)
    assert [frame["frame_index"] for frame in frames] == list(range(FRAMES))
    assert api.job(running["id"])["attempts"] == 1
    assert [working.service.process(name).pid for name in ("api", "worker")] == pids
    until(lambda: working.service.stored() == [])


@pytest.fixture
def limit(working: Faulty) -> Iterator[Callable[[int], None]]:
    """Sets Redis' memory limit, bytes beyond what is used now; there is none afterwards."""

    def set_to(beyond: int) -> None:
        with working.connection() as connection:
            memory: dict[str, Any] = connection.info("memory")
            connection.config_set("maxmemory", max(memory["used_memory"] + beyond, 1))

    yield set_to
    with working.connection() as connection:
        connection.config_set("maxmemory", 0)


def refused(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM)
    assert answer.json()["code"] == "storage_full"


def test_redis_nearly_full(working: Faulty, clip: bytes, limit: Callable[[int], None]) -> None:
    """New jobs are rejected before it is full, so the running one can end and be read."""
    job = working.api.running(working.api.submit(clip)["id"])
    limit(200_000)  # less than a fifth of what is used
    refused(working.api.http.post("/v1/jobs", content=clip, headers={"Content-Type": "video/mp4"}))
    assert working.api.http.get(f"/v1/jobs/{job['id']}/frames").json()["frames"]
    ended = working.api.ended(job["id"])
    assert (ended["state"], len(working.records(ended))) == ("succeeded", FRAMES)


def test_redis_full(working: Faulty, clip: bytes, limit: Callable[[int], None]) -> None:
    """The running job fails with a clear error and keeps its frames; reading and deleting work; then all recovers."""
    api = working.api
    job = api.running(api.submit(clip)["id"])
    limit(-1_000_000_000)
    with working.connection() as connection, pytest.raises(redis.exceptions.OutOfMemoryError):
        connection.set("key", "value")
    refused(api.http.post("/v1/jobs", content=clip, headers={"Content-Type": "video/mp4"}))
    ended: Record = api.ended(job["id"])
    assert (ended["state"], ended["error"]["code"], ended["attempts"]) == ("failed", "storage_full", 1)
    frames = api.frames(job["id"], limit=1000)
    assert len(frames) == ended["progress"]["frames_done"] > 0
    assert api.http.delete(f"/v1/jobs/{job['id']}").status_code == 204
    limit(1_000_000_000)
    assert api.ended(api.submit(clip, sample_fps=1)["id"])["state"] == "succeeded"
    assert not working.service.stored()
