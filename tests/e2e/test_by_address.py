"""A job by address, fetched by the front end's own background process."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import httpx
import pytest

from tests.app.background.conftest import VIDEO, Host, host
from tests.service import serving

__all__ = ["host"]

pytestmark = pytest.mark.e2e


def test_the_front_end_fetches_what_is_submitted_by_address(host: Host, tmp_path: Path) -> None:
    """A client sees `fetching`, in events too, then a job that waits like any other; no worker is needed."""
    with serving(tmp_path, MIEN_FETCH_HOSTS=host.name, MIEN_FETCH_PRIVATE="true") as service:
        service.wait_live()
        with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as http:
            job = http.post("/v1/jobs", json={"url": host.url(), "batch": "pilot"}).json()
            assert (job["state"], job["stage"]) == ("queued", "fetching")
            stages = [job["stage"]]
            with http.stream("GET", f"/v1/jobs/{job['id']}/events") as events:
                for line in events.iter_lines():
                    if line.startswith("data: "):
                        job = json.loads(line.removeprefix("data: "))
                        stages.append(job["stage"])
                        if job["stage"] is None:
                            break
            assert set(stages) == {"fetching", None}
            assert (job["state"], job["queue_position"]) == ("queued", 0)
            assert job["input"]["sha256"] == hashlib.sha256(VIDEO).hexdigest()
            assert http.get("/v1/batches/pilot").json()["states"]["queued"] == 1
            http.delete("/v1/batches/pilot").raise_for_status()
        deadline = time.monotonic() + 5
        while service.stored():
            assert time.monotonic() < deadline
            time.sleep(0.05)
