"""Stored results outlive releases: what an older worker left in Redis reads as it did then."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.contract import chunks, keys
from app.contract.jobs import RECORD_FORMAT

# One file a format that ever was stored.  A new format adds a file; the old ones stay as they are.
STORED = sorted((Path(__file__).parent / "stored").glob("format_*.json"))


@pytest.fixture(params=STORED, ids=lambda path: path.stem)
def stored(request: pytest.FixtureRequest, worker: Any) -> dict[str, Any]:
    """A job in Redis, byte for byte as it was left, and what the API answered then."""
    content: dict[str, Any] = json.loads(request.param.read_text())
    job_id, execution = content["hash"]["id"], content["hash"]["execution"]
    worker.redis.hset(keys.job(job_id), mapping=content["hash"])
    worker.redis.zadd(keys.jobs(content["hash"]["owner"]), {job_id: 1})
    for chunk in content["chunks"]:
        worker.redis.rpush(keys.frames(job_id, execution), base64.b64decode(chunk))
    if "whole" in content:
        worker.redis.set(keys.whole(job_id, execution), base64.b64decode(content["whole"]))
    return content


def test_every_format_has_its_file() -> None:
    """The formats that this release writes are among those that are kept."""
    assert f"format_{RECORD_FORMAT}" in {path.stem for path in STORED}
    written = {base64.b64decode(chunk)[0] for path in STORED for chunk in json.loads(path.read_text())["chunks"]}
    assert written == {chunks.VERSION, chunks.WITH_SIZES, chunks.WITH_LOOKS}
    assert any("whole" in json.loads(path.read_text()) for path in STORED)


def test_old_results_read_as_they_did(stored: dict[str, Any], api: httpx.Client) -> None:
    """The job and all its frames, members too, are what the API answered when they were written."""
    url = f"/v1/jobs/{stored['hash']['id']}"
    job = api.get(url).json()
    # There may be new ones.
    parts = {part: {name: job[part][name] for name in stored["job"][part]} for part in ("options", "progress")}
    assert {name: job[name] for name in stored["job"]} | parts == stored["job"]
    assert [entry["id"] for entry in api.get("/v1/jobs").json()["jobs"]] == [job["id"]]
    page = api.get(f"{url}/frames?members=true").json()
    assert page["frames"] == stored["frames"]
    assert page["complete"]
    assert api.get(f"{url}/frames?format=csv").text.count("\r\n") == 1 + len(stored["frames"])
    assert api.get(f"{url}/summary").json()["frames"] == len(stored["frames"])


def test_what_a_newer_worker_adds_is_passed_over(stored: dict[str, Any], api: httpx.Client, worker: Any) -> None:
    """Fields that this release does not know change nothing."""
    job_id = stored["hash"]["id"]
    worker.redis.hset(keys.job(job_id), mapping={"mood_of_the_gpu": '"fine"', "later": "not even JSON"})
    assert api.get(f"/v1/jobs/{job_id}").json()["state"] == stored["job"]["state"]


def test_an_option_of_a_newer_release_is_passed_over(stored: dict[str, Any], api: httpx.Client, worker: Any) -> None:
    """The job is shown with the options that this release knows, and can be removed."""
    job_id = stored["hash"]["id"]
    options = json.loads(stored["hash"]["options"]) | {"clairvoyance": True}
    worker.redis.hset(keys.job(job_id), "options", json.dumps(options))
    job = api.get(f"/v1/jobs/{job_id}").json()
    assert "clairvoyance" not in job["options"]
    assert job["state"] == stored["job"]["state"]
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204


@pytest.mark.parametrize(("field", "text"), [("media", "hologram"), ("options", '{"faces": "x"}'), ("input", "{")])
def test_a_record_that_cannot_be_read_is_told_clearly(
    stored: dict[str, Any], api: httpx.Client, worker: Any, submit: Callable[..., str], field: str, text: str
) -> None:
    """A job of another release is 503 with a reason; a list has the others, and metrics are there."""
    job_id, other = stored["hash"]["id"], submit()
    worker.redis.hset(keys.job(job_id), field, text)
    for answer in (api.get(f"/v1/jobs/{job_id}"), api.get(f"/v1/jobs/{job_id}/frames")):
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "release" in answer.json()["detail"]
    assert [job["id"] for job in api.get("/v1/jobs").json()["jobs"]] == [other]
    worker.redis.hset(keys.job(other), field, text)
    assert api.get("/metrics").status_code == 200


def test_a_worker_of_a_newer_release_is_passed_over(api: httpx.Client, worker: Any) -> None:
    """A record of a newer release does not hide other workers, and jobs are accepted."""
    worker.announce()
    worker.redis.set(keys.worker("newer"), '{"name": "newer", "state": "dreaming"}')
    worker.redis.zadd(keys.WORKERS, {"newer": 1})
    assert [one["name"] for one in api.get("/health/ready").json()["workers"]] == ["manual-default"]


def test_chunks_of_a_newer_format_are_refused_clearly(stored: dict[str, Any], api: httpx.Client, worker: Any) -> None:
    """Frames that this release cannot read are 503 with a reason, not an unexpected error."""
    job_id = stored["hash"]["id"]
    key = keys.frames(job_id, stored["hash"]["execution"])
    worker.redis.lset(key, 0, bytes([chunks.WITH_LOOKS + 1]) + b"whatever comes then")
    for path in ("frames", "summary", "timeline.svg"):
        answer = api.get(f"/v1/jobs/{job_id}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "release" in answer.json()["detail"]
