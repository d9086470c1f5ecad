"""Load: pollers and uploaders at once, against a running service.

    python tests/bench/load.py http://127.0.0.1:8000 --video clip.mp4 [--pollers 100] [--uploaders 10] [--seconds 60]

Prints one JSON object: the idle and the loaded latency of `GET /v1/jobs/{id}`, answers by status, and whether every
accepted job is still known.  Exits 1 if there was a 5xx, a lost job, or a loaded p99 above 10 times the idle p50.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

PAUSE_S = 0.5  # between two looks of one poller: what a client that polls does
WORST_RATIO = 10
SERVER_ERROR = 500


class Load:
    """What was sent and how it was answered."""

    def __init__(self, client: httpx.AsyncClient, video: bytes) -> None:
        self.client = client
        self.video = video
        self.jobs: list[str] = []
        self.statuses: Counter[str] = Counter()
        self.seconds: list[float] = []

    async def upload(self) -> None:
        """One submission."""
        answer = await self.client.post("/v1/jobs", files={"file": ("clip.mp4", self.video)})
        self.statuses[f"POST {answer.status_code}"] += 1
        if answer.is_success:
            self.jobs.append(answer.json()["id"])

    async def look(self, seconds: list[float]) -> None:
        """One look at a job, timed."""
        job_id = random.choice(self.jobs)
        began = time.perf_counter()
        answer = await self.client.get(f"/v1/jobs/{job_id}")
        seconds.append(time.perf_counter() - began)
        self.statuses[f"GET {answer.status_code}"] += 1

    async def poller(self, until: float) -> None:
        """Looks until the time is up."""
        await asyncio.sleep(random.uniform(0, PAUSE_S))  # not all at once
        while time.monotonic() < until:
            await self.look(self.seconds)
            await asyncio.sleep(PAUSE_S)

    async def uploader(self, until: float) -> None:
        """Uploads until the time is up."""
        while time.monotonic() < until:
            await self.upload()
            await asyncio.sleep(PAUSE_S)

    async def known(self) -> int:
        """How many of the accepted jobs are still known."""
        answers = [await self.client.get(f"/v1/jobs/{job_id}") for job_id in self.jobs]
        return sum(answer.is_success for answer in answers)


async def run(base: str, video: bytes, pollers: int, uploaders: int, seconds: float) -> dict[str, Any]:
    """The whole measurement."""
    limits = httpx.Limits(max_connections=pollers + uploaders, max_keepalive_connections=pollers + uploaders)
    async with httpx.AsyncClient(base_url=base, timeout=60, limits=limits) as client:
        load = Load(client, video)
        await load.upload()
        idle: list[float] = []
        for _ in range(200):
            await load.look(idle)
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            for _ in range(pollers):
                tasks.create_task(load.poller(until))
            for _ in range(uploaders):
                tasks.create_task(load.uploader(until))
        known = await load.known()
    idle_p50 = statistics.median(idle)
    p99 = statistics.quantiles(load.seconds, n=100)[98]
    return {
        "pollers": pollers,
        "uploaders": uploaders,
        "seconds": seconds,
        "statuses": dict(sorted(load.statuses.items())),
        "jobs": len(load.jobs),
        "jobs_lost": len(load.jobs) - known,
        "idle_p50_ms": round(idle_p50 * 1000, 2),
        "loaded_p50_ms": round(statistics.median(load.seconds) * 1000, 2),
        "loaded_p99_ms": round(p99 * 1000, 2),
        "ratio": round(p99 / idle_p50, 2),
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--pollers", type=int, default=100)
    parser.add_argument("--uploaders", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    found = asyncio.run(run(given.base, given.video.read_bytes(), given.pollers, given.uploaders, given.seconds))
    print(json.dumps(found, indent=2))
    failed = any(int(name.split()[1]) >= SERVER_ERROR for name in found["statuses"])
    if failed or found["jobs_lost"] or found["ratio"] > WORST_RATIO:
        sys.exit(1)


if __name__ == "__main__":
    main()
