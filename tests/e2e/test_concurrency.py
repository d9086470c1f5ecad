"""Several jobs at once in one worker, several workers under one command, and a worker that rests."""

from __future__ import annotations

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import until

if TYPE_CHECKING:
    from tests.service import Api, Clips

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TOLERANCE = 2e-3

# `worker run` with MIEN_DEVICE=cuda:all does this, with the GPUs that it finds.
TWO_WORKERS = """
from worker.process.logs import configure
from worker.settings import WorkerSettings
from worker.process.supervisor import supervise, worker_command
configure(WorkerSettings())
supervise(["cpu", "cpu"], worker_command(1))
"""


def workers(api: Api) -> list[dict[str, Any]]:
    """Those that serve, as `/v1/models` has them."""
    models = api.http.get("/v1/models").json()["models"]
    return [worker for model in models for worker in model["workers"] if worker["state"] in {"ready", "busy"}]


def without_scores(record: dict[str, Any]) -> dict[str, Any]:
    faces = [{key: face[key] for key in ("track_id", "bbox")} for face in record["faces"]]
    return {"frame_index": record["frame_index"], "timestamp_s": record["timestamp_s"], "faces": faces}


def scores(records: list[dict[str, Any]]) -> list[float]:
    return [score for record in records for face in record["faces"] for score in face["scores"].values()]


@pytest.mark.long
def test_jobs_at_once_and_an_idle_worker(own_api: Api, clips: Clips, long_clip: bytes) -> None:
    """An image does not wait behind a long video; jobs at once get the records of lone ones; SIGTERM hands all back.

    The worker rests between the jobs: it gives its memory back, stays ready, and labels the same afterwards.
    """
    service = own_api.service
    service.environment |= {"MIEN_IDLE_RELEASE_S": "3"}
    command = (sys.executable, "-m", "worker", "run", "--concurrency", "3")
    worker = service.start("worker", *command)
    service.wait_ready()
    short = [clips.video(clips.pictures(count)) for count in (20, 30)]
    alone = [own_api.label(clip)[1] for clip in short]
    until(lambda: (workers(own_api)[0]["detail"] or "").startswith("idle"))
    assert own_api.http.get("/health/ready").status_code == 200
    long = own_api.submit(long_clip)
    own_api.running(long["id"])
    assert workers(own_api)[0]["detail"] is None
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda clip: own_api.label(clip)[1], short))
    image, frames = own_api.label(clips.png(0), "face.png")
    assert (image["state"], len(frames)) == ("succeeded", 1)
    assert own_api.job(long["id"])["state"] == "running"
    own_api.http.post(f"/v1/jobs/{long['id']}/cancel")
    for expected, found in zip(alone, together, strict=True):
        assert list(map(without_scores, found)) == list(map(without_scores, expected))
        assert scores(found) == pytest.approx(scores(expected), abs=TOLERANCE)
    assert own_api.ended(long["id"])["state"] == "canceled"
    interrupted = [own_api.submit(long_clip) for _ in range(3)]
    for job in interrupted:
        own_api.running(job["id"])
    assert workers(own_api)[0]["jobs_running"] == 3
    started = time.monotonic()
    assert "stopped" in service.stop(worker)
    assert time.monotonic() - started < 10
    for job in interrupted:
        waiting = own_api.job(job["id"])
        assert (waiting["state"], waiting["attempts"], waiting["progress"]["frames_done"]) == ("queued", 0, 0)
        own_api.http.delete(f"/v1/jobs/{job['id']}")


@pytest.mark.long
def test_a_worker_for_each_device(own_api: Api, clips: Clips) -> None:
    """Both are in `/v1/models`; one that is killed comes back; SIGTERM stops all."""
    service = own_api.service
    service.environment |= {"MIEN_THREADS": "1"}
    supervisor = service.start("supervisor", sys.executable, "-c", TWO_WORKERS)
    until(lambda: len(workers(own_api)) == 2)
    names = {worker["name"] for worker in workers(own_api)}
    killed = sorted(names)[0]
    pid = int(killed.rsplit("-", 2)[1])
    os.kill(pid, signal.SIGKILL)
    until(lambda: len(new := {worker["name"] for worker in workers(own_api)}) == 2 and killed not in new)
    assert len(names & {worker["name"] for worker in workers(own_api)}) == 1
    assert len(own_api.label(clips.video(clips.pictures(3)))[1]) == 3
    assert "supervisor_stopped" in service.stop(supervisor)
    assert workers(own_api) == []
