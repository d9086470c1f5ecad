"""Load: pollers, event streams and uploaders at once, against a running service whose worker labels what they send.

    python tests/bench/load.py http://127.0.0.1:8000 --video clip.mp4 [--pollers 100] [--streams 20] [--uploaders 10]
        [--seconds 60]

A poller is a client that asks for a job, and again as long after the answer as the service's `Retry-After` told it
(one second; `--pause` chooses otherwise).  An uploader sends the video again half a second after its answer.  A stream
reads the events of a job until its end, then those of the next one, in the order in which the worker takes them.
Uploaders and streams run in a process of their own, so that pollers measure the service and not each other.

The idle latency is that of the same pollers at the same pace while nothing else happens.  Requests back to back are
faster, since processors and caches stay awake between them; they are reported, but not compared with the load.

Prints one JSON object: the idle and the loaded latency of `GET /v1/jobs/{id}`, answers by status, what the workers were
at, and whether every accepted job is still known.  Exits 1 if there was a 5xx, a lost job, or a loaded p99 above 6
times the idle median.
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
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

UPLOAD_PAUSE_S = 0.5
LOOKS_BACK_TO_BACK = 300
IDLE_S = 10
ENDED_S = 120
WORST_RATIO = 6
OK, ACCEPTED, SERVER_ERROR = 200, 202, 500


class Connection:
    """One kept connection with as little as possible around it: the load's own cost must not hide the service's."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        """Connect, unless it is connected."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes, int]:
        """One request -> status, body, and `Retry-After` (0 where there is none)."""
        await self.open()
        assert self._streams is not None
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: load\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
        content = await reader.readexactly(int(length[1]) if length else 0)
        after = re.search(rb"retry-after: (\d+)", answer, re.IGNORECASE)
        return int(answer.split(b" ", 2)[1]), content, int(after[1]) if after else 0

    def close(self) -> None:
        """Close it."""
        if self._streams is not None:
            self._streams[1].close()


class Load:
    """Requests and their answers."""

    def __init__(self, base: str, video: bytes) -> None:
        parts = urlsplit(base)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._connections: list[Connection] = []
        self._video = video
        self.jobs: list[str] = []
        self.statuses: Counter[str] = Counter()
        self.retry_after_s = 0.0
        self._followed = 0

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
        status, body, self.retry_after_s = await connection.ask("POST", "/v1/jobs", self._video)
        self.statuses[f"POST {status}"] += 1
        if status == ACCEPTED:
            self.jobs.append(json.loads(body)["id"])

    async def ended(self, connection: Connection) -> None:
        """Wait for the first job's end: idle is idle.  Where there is no worker it never comes."""
        deadline = time.monotonic() + ENDED_S
        while time.monotonic() < deadline:
            _, body, _ = await connection.ask("GET", f"/v1/jobs/{self.jobs[0]}?wait=5")
            if json.loads(body)["state"] not in {"queued", "running"}:
                return

    async def look(self, connection: Connection, seconds: list[float]) -> int:
        """One look at a job, timed."""
        job_id = random.choice(self.jobs)
        began = time.perf_counter()
        status, _, _ = await connection.ask("GET", f"/v1/jobs/{job_id}")
        seconds.append(time.perf_counter() - began)
        self.statuses[f"GET {status}"] += 1
        return status

    async def poller(self, connection: Connection, until: float, pause_s: float, seconds: list[float]) -> None:
        """Looks until the time is up."""
        await connection.open()  # a client connects once, so its looks do not contain it
        await asyncio.sleep(random.uniform(0, pause_s))  # not all at once
        while time.monotonic() < until:
            await self.look(connection, seconds)
            await asyncio.sleep(pause_s)

    async def pollers(self, connections: list[Connection], duration_s: float, pause_s: float) -> list[float]:
        """One poller a connection, for so long -> seconds of each look."""
        seconds: list[float] = []
        until = time.monotonic() + duration_s
        await asyncio.gather(*(self.poller(connection, until, pause_s, seconds) for connection in connections))
        return seconds

    async def uploader(self, until: float) -> None:
        """Uploads until the time is up."""
        connection = self.connection()
        while time.monotonic() < until:
            await self.upload(connection)
            await asyncio.sleep(UPLOAD_PAUSE_S)

    async def streamer(self, until: float) -> None:
        """Reads the events of one job after another until the time is up."""
        while time.monotonic() < until:
            if self._followed >= len(self.jobs):
                await asyncio.sleep(UPLOAD_PAUSE_S)
                continue
            job_id, self._followed = self.jobs[self._followed], self._followed + 1
            reader, writer = await asyncio.open_connection(*self._address)
            writer.write(f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n".encode())
            with suppress(TimeoutError):
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + until - time.monotonic()):
                    answer = await reader.read()
                    self.statuses[f"events {int(answer.split(b' ', 2)[1])}"] += 1
            writer.close()

    async def workers(self) -> dict[str, int]:
        """How many workers are in which state."""
        _, body, _ = await self.connection().ask("GET", "/health/ready")
        return dict(Counter(worker["state"] for worker in json.loads(body)["workers"]))

    async def lost(self) -> int:
        """How many of the accepted jobs are not known any more."""
        connection = self.connection()
        answers = [await connection.ask("GET", f"/v1/jobs/{job_id}") for job_id in self.jobs]
        return sum(status != OK for status, _, _ in answers)


async def run(given: argparse.Namespace) -> dict[str, Any]:
    """The whole measurement."""
    load = Load(given.base, given.video.read_bytes())
    first = load.connection()
    await load.upload(first)
    await load.ended(first)
    back_to_back: list[float] = []
    for _ in range(LOOKS_BACK_TO_BACK):
        await load.look(first, back_to_back)
    pause_s = given.pause or load.retry_after_s
    connections = [load.connection() for _ in range(given.pollers)]
    idle = await load.pollers(connections, max(IDLE_S, 3 * pause_s), pause_s)
    command = [sys.executable, __file__, given.base, "--video", str(given.video), "--seconds", str(given.seconds)]
    command += ["--uploaders", str(given.uploaders), "--streams", str(given.streams), "--only-upload"]
    uploading = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    polling = asyncio.create_task(load.pollers(connections, given.seconds, pause_s))
    await asyncio.sleep(given.seconds / 2)
    workers = await load.workers()
    loaded = await polling
    printed, _ = await uploading.communicate()
    uploaded = json.loads(printed)
    load.jobs += uploaded["jobs"]
    load.statuses.update(uploaded["statuses"])
    lost = await load.lost()
    load.close()
    return {"pollers": given.pollers, "streams": given.streams, "uploaders": given.uploaders} | {
        "pause_s": pause_s,
        "seconds": given.seconds,
        "statuses": dict(sorted(load.statuses.items())),
        "jobs": len(load.jobs),
        "jobs_lost": lost,
        "workers_at_half_time": workers,
        "back_to_back_p50_ms": round(statistics.median(back_to_back) * 1000, 2),
        **latencies(idle, loaded),
    }


def latencies(idle: list[float], loaded: list[float]) -> dict[str, float]:
    """Milliseconds, and how many times the idle median the loaded 99th percentile is."""
    idle_p50, p99 = statistics.median(idle), statistics.quantiles(loaded, n=100)[98]
    return {
        "idle_p50_ms": round(idle_p50 * 1000, 2),
        "idle_p99_ms": round(statistics.quantiles(idle, n=100)[98] * 1000, 2),
        "loaded_p50_ms": round(statistics.median(loaded) * 1000, 2),
        "loaded_p99_ms": round(p99 * 1000, 2),
        "ratio": round(p99 / idle_p50, 2),
    }


async def upload(given: argparse.Namespace) -> dict[str, Any]:
    """Uploaders and streams alone: what the process that `run` starts does."""
    load = Load(given.base, given.video.read_bytes())
    until = time.monotonic() + given.seconds
    async with asyncio.TaskGroup() as tasks:
        for _ in range(given.uploaders):
            tasks.create_task(load.uploader(until))
        for _ in range(given.streams):
            tasks.create_task(load.streamer(until))
    load.close()
    return {"jobs": load.jobs, "statuses": dict(load.statuses)}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--pollers", type=int, default=100)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--uploaders", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between a poller's looks")
    parser.add_argument("--only-upload", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only_upload:
        print(json.dumps(asyncio.run(upload(given))))
        return
    found = asyncio.run(run(given))
    print(json.dumps(found, indent=2))
    failed = any(int(name.split()[1]) >= SERVER_ERROR for name in found["statuses"])
    if failed or found["jobs_lost"] or found["ratio"] > WORST_RATIO:
        sys.exit(1)


if __name__ == "__main__":
    main()
