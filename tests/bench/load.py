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
import re
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PAUSE_S = 0.5  # between two looks of one poller: what a client that polls does
WORST_RATIO = 10
OK, ACCEPTED, SERVER_ERROR = 200, 202, 500


class Connection:
    """One kept connection with as little as possible around it: the load's own cost must not hide the service's."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """One request -> status and body."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: load\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
        content = await reader.readexactly(int(length[1]) if length else 0)
        return int(answer.split(b" ", 2)[1]), content

    def close(self) -> None:
        """Close it."""
        if self._streams is not None:
            self._streams[1].close()


class Load:
    """What was sent and how it was answered."""

    def __init__(self, base: str, video: bytes) -> None:
        parts = urlsplit(base)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._connections: list[Connection] = []
        self._video = video
        self.jobs: list[str] = []
        self.statuses: Counter[str] = Counter()
        self.seconds: list[float] = []

    def connection(self) -> Connection:
        """A new connection, closed at the end."""
        self._connections.append(Connection(*self._address))
        return self._connections[-1]

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            connection.close()

    async def upload(self, connection: Connection) -> None:
        """One submission."""
        status, body = await connection.ask("POST", "/v1/jobs", self._video)
        self.statuses[f"POST {status}"] += 1
        if status == ACCEPTED:
            self.jobs.append(json.loads(body)["id"])

    async def look(self, connection: Connection, seconds: list[float]) -> int:
        """One look at a job, timed."""
        job_id = random.choice(self.jobs)
        began = time.perf_counter()
        status, _ = await connection.ask("GET", f"/v1/jobs/{job_id}")
        seconds.append(time.perf_counter() - began)
        self.statuses[f"GET {status}"] += 1
        return status

    async def poller(self, until: float) -> None:
        """Looks until the time is up."""
        connection = self.connection()
        await asyncio.sleep(random.uniform(0, PAUSE_S))  # not all at once
        while time.monotonic() < until:
            await self.look(connection, self.seconds)
            await asyncio.sleep(PAUSE_S)

    async def uploader(self, until: float) -> None:
        """Uploads until the time is up."""
        connection = self.connection()
        while time.monotonic() < until:
            await self.upload(connection)
            await asyncio.sleep(PAUSE_S)

    async def lost(self) -> int:
        """How many of the accepted jobs are not known any more."""
        connection = self.connection()
        answers = [await connection.ask("GET", f"/v1/jobs/{job_id}") for job_id in self.jobs]
        return sum(status != OK for status, _ in answers)


async def run(base: str, video: bytes, pollers: int, uploaders: int, seconds: float) -> dict[str, Any]:
    """The whole measurement."""
    load = Load(base, video)
    first = load.connection()
    await load.upload(first)
    idle: list[float] = []
    for _ in range(200):
        await load.look(first, idle)
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as tasks:
        for _ in range(pollers):
            tasks.create_task(load.poller(until))
        for _ in range(uploaders):
            tasks.create_task(load.uploader(until))
    lost = await load.lost()
    load.close()
    idle_p50 = statistics.median(idle)
    p99 = statistics.quantiles(load.seconds, n=100)[98]
    return {
        "pollers": pollers,
        "uploaders": uploaders,
        "seconds": seconds,
        "statuses": dict(sorted(load.statuses.items())),
        "jobs": len(load.jobs),
        "jobs_lost": lost,
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
