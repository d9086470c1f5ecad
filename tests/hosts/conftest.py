"""One set of hosts for all tests, and what clients do with it while parts of it are away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.hosts.lab import Lab, running

if TYPE_CHECKING:
    from tests.service import Client, Clips, Record

SHORT, LONG = 16, 140  # frames; the longer one takes some seconds
ENDED = frozenset({"succeeded", "failed", "canceled"})
ENDED_S = 400


@dataclass
class Hosts:
    """The hosts and a client of the service."""

    lab: Lab
    api: Client
    short: bytes
    long: bytes

    def ended(self, job_id: str) -> Record:
        """The job once it has ended; it is asked for again where an outage costs an answer."""
        deadline = time.monotonic() + ENDED_S
        while time.monotonic() < deadline:
            try:
                job: Record = self.api.http.get(f"/v1/jobs/{job_id}").json()
            except (httpx.TransportError, ValueError):  # or the proxy's page
                job = {}
            if job.get("state") in ENDED:
                return job
            time.sleep(0.25)
        raise AssertionError(f"{job_id} did not end")

    def succeeded(self, job_ids: Iterable[str], frames: int, attempts: int) -> list[Record]:
        """The jobs once all have ended, each checked."""
        done = [self.ended(job_id) for job_id in job_ids]
        for job in done:
            self.check(job, frames, attempts)
        return done

    def check(self, job: Record, frames: int, attempts: int = 1) -> None:
        """It succeeded within so many attempts, and has each record once."""
        assert job["state"] == "succeeded", job["error"]
        assert job["attempts"] <= attempts
        assert [record["frame_index"] for record in self.api.frames(job["id"])] == list(range(frames))


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory, clips: Clips) -> Iterator[Hosts]:
    short, long = (clips.video(clips.pictures(count, (160, 120))) for count in (SHORT, LONG))
    with running(tmp_path_factory.mktemp("hosts")) as (lab, api):
        yield Hosts(lab, api, short, long)
        print("\n" + json.dumps(lab.figures, indent=2))
