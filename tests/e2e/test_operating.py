"""Metrics and correlated log lines of jobs by real workers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from tests.service import Api, Clips

pytestmark = pytest.mark.e2e


def samples(api: Api) -> dict[tuple[str, ...], float]:
    """Value of each metric, by its name and the values of its labels, once the worker has nothing to do."""
    deadline = time.monotonic() + 20
    while True:
        families = text_string_to_metric_families(api.http.get("/metrics").text)
        found = {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}
        if found.get(("mien_workers", "default", "ready")):
            return found
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_metrics_say_what_a_job_cost(api: Api, clips: Clips) -> None:
    """A job adds its frames, faces, batches and the time of every stage; the worker is ready, idle and of some size."""
    clip = clips.video(clips.pictures(40))
    api.label(clip)
    before = samples(api)
    api.label(clip)
    after = samples(api)

    def added(*name: str) -> float:
        return after[name] - before[name]

    assert (added("mien_frames_total"), added("mien_faces_total"), added("mien_batch_crops_total")) == (40, 40, 40)
    assert added("mien_jobs_total", "succeeded") == 1
    assert added("mien_batches_total") >= 1
    assert added("mien_batch_slots_total") >= 40
    for stage in ("decode", "faces", "crops", "ensemble"):
        assert added("mien_stage_seconds_total", stage) > 0
    stages = sum(value for name, value in after.items() if name[0] == "mien_stage_seconds_total")
    assert stages < 4 * after["mien_busy_seconds_total",] + 1  # four stages that overlap
    assert after["mien_queue_jobs", "mien-default"] == 0
    assert after["mien_workers", "default", "ready"] == 1
    assert after["mien_jobs_running",] == 0
    (rss,) = (value for name, value in after.items() if name[0] == "mien_worker_memory_bytes")
    assert rss > 50 * 2**20


def test_a_request_is_found_in_the_workers_log(api: Api, clips: Clips) -> None:
    """The X-Request-ID of a submission stands in the worker's lines of its job, beside the job's id."""
    files = {"file": ("clip.mp4", clips.video(clips.pictures(3)))}
    answer = api.http.post("/v1/jobs", files=files, headers={"X-Request-ID": "trace-4711"})
    job = api.ended(answer.json()["id"])
    samples(api)  # its end is visible a moment before its last line
    lines = [line for line in api.service.process("worker").log.read_text().splitlines() if job["id"] in line]
    assert any("job_started" in line for line in lines)
    assert any("job_ended" in line for line in lines)
    assert all("trace-4711" in line for line in lines)
