"""Interactive jobs wait in a queue of their own; positions count both queues as workers take from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.contract.priorities import TURNS

Submit = Callable[..., str]


def position(api: httpx.Client, job_id: str) -> int:
    shown = api.get(f"/v1/jobs/{job_id}").json()["queue_position"]
    listed = {job["id"]: job["queue_position"] for job in api.get("/v1/jobs").json()["jobs"]}
    assert listed[job_id] == shown
    return int(shown)


def test_positions_count_both_queues(api: httpx.Client, submit: Submit) -> None:
    """Interactive jobs run before those of the batch queue, which has its turn after every fourth."""
    batch = [submit() for _ in range(2)]
    urgent = [submit(priority="interactive") for _ in range(6)]
    assert [position(api, job_id) for job_id in batch] == [TURNS, 1 + 6]
    assert [position(api, job_id) for job_id in urgent] == [0, 1, 2, 3, 5, 6]


def test_an_interactive_job_is_cancelled_and_recovered_in_its_queue(
    api: httpx.Client, submit: Submit, worker: Any
) -> None:
    """A job that is handed back returns to its own queue."""
    job_id, other = submit(priority="interactive"), submit(priority="interactive")
    worker.redis.lrem("rq:queue:mien-default:interactive", 0, job_id)
    worker.claim(job_id).hand_back()
    assert worker.redis.lrange("rq:queue:mien-default:interactive", 0, -1) == [job_id.encode(), other.encode()]
    assert worker.redis.llen("rq:queue:mien-default") == 0
    assert api.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "canceled"
    assert position(api, other) == 0


def test_the_option_is_shown_and_checked(api: httpx.Client, submit: Submit) -> None:
    """The default is batch; another word is an invalid option."""
    assert api.get(f"/v1/jobs/{submit()}").json()["options"]["priority"] == "batch"
    assert api.get(f"/v1/jobs/{submit(priority='interactive')}").json()["options"]["priority"] == "interactive"
    answer = api.post("/v1/jobs?priority=now", content=b"x")
    assert (answer.status_code, answer.json()["field"]) == (422, "priority")


@pytest.mark.parametrize("query", ["?priority=interactive", ""])
def test_each_queue_has_its_limit(make_api: Any, worker: Any, query: str) -> None:
    """A full queue of one priority leaves the other open."""
    api = make_api(max_queue=1)
    content = b"\x00\x00\x00\x18ftypisom" + bytes(500)
    other = "" if query else "?priority=interactive"
    assert api.post(f"/v1/jobs{query}", content=content).status_code == 202
    assert api.post(f"/v1/jobs{query}", content=content).json()["code"] == "queue_full"
    assert api.post(f"/v1/jobs{other}", content=content).status_code == 202
