"""Event streams: how many one front-end process holds, and what they cost it.

    python -m tests.bench.streams [--streams 2000] [--seconds 60]

Starts a service without a worker, submits jobs that wait, follows each with many streams, and cancels the jobs at the
end.  Prints one JSON object.  Exits 1 unless every stream stayed open and ended with its job, and the process had at
most 300 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.service import Clips, Service, serving

STREAMS_A_JOB = 40
AT_ONCE = 50  # connections that are being opened
LOOKS = 200
MOST_MB = 300
END_S = 60


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def open_stream(address: tuple[str, int], job_id: str, gate: asyncio.Semaphore) -> Stream:
    """A stream of a job's events, once its first event is here."""
    async with gate:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        await reader.readuntil(b"event: progress")
    return reader, writer


async def tells_the_end(stream: Stream) -> bool:
    """Whether a stream, when it ends, has told the job's end."""
    reader, writer = stream
    rest = await reader.read()
    writer.close()
    return b"event: canceled" in rest


async def look(http: httpx.AsyncClient, job_id: str) -> list[float]:
    """Milliseconds of looks at a job, one after another."""
    found = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        (await http.get(f"/v1/jobs/{job_id}")).raise_for_status()
        found.append((time.perf_counter() - began) * 1000)
    return found


def usage(pid: int) -> tuple[float, float]:
    """Resident megabytes, and seconds of processor time, of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return kilobytes * 1024 / 1e6, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def run(service: Service, video: bytes, streams: int, seconds: float) -> dict[str, Any]:
    """The whole measurement."""
    parts = urlsplit(service.url)
    address = (parts.hostname or "", parts.port or 0)
    pid = service.process("api").pid
    gate = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=service.url, timeout=END_S, trust_env=False) as http:
        jobs = [(await http.post("/v1/jobs", content=video)).json()["id"] for _ in range(-(-streams // STREAMS_A_JOB))]
        idle = await look(http, jobs[0])
        before_mb, _ = usage(pid)
        opening = (open_stream(address, jobs[number // STREAMS_A_JOB], gate) for number in range(streams))
        followers = [asyncio.create_task(tells_the_end(stream)) for stream in await asyncio.gather(*opening)]
        _, began_s = usage(pid)
        await asyncio.sleep(seconds)
        held_mb, ended_s = usage(pid)
        held = sum(not task.done() for task in followers)
        busy = await look(http, jobs[0])
        began = time.monotonic()
        for job_id in jobs:
            (await http.post(f"/v1/jobs/{job_id}/cancel")).raise_for_status()
        _, late = await asyncio.wait(followers, timeout=END_S)
        took_s = time.monotonic() - began
        told = sum(not task.exception() and task.result() for task in followers if task not in late)
    return {
        "ok": held == told == streams and held_mb <= MOST_MB,
        "streams": streams,
        "held_open": held,
        "told_the_end": told,
        "rss_mb": [round(before_mb), round(held_mb)],
        "cores_while_open": round((ended_s - began_s) / seconds, 3),
        "all_told_within_s": round(took_s, 1),
        "look_p50_ms": [round(statistics.median(found), 2) for found in (idle, busy)],
        "look_p99_ms": [round(statistics.quantiles(found, n=100)[98], 2) for found in (idle, busy)],
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mien-streams-") as name, serving(Path(name)) as service:
        service.wait_live()
        clips = Clips(Path(name))
        video = clips.video(clips.pictures(3))
        found = asyncio.run(run(service, video, given.streams, given.seconds))
    print(json.dumps(found))
    sys.exit(not found["ok"])


if __name__ == "__main__":
    main()
