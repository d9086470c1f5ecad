"""A soak: many short jobs with cancels, deletes, worker kills and Redis outages, against a service of its own.

    python -m tests.bench.soak [--jobs 200] [--seconds 900] [--kill-every 60] [--outages 10,60] [--seed 1]

Prints one JSON object.  Exits 1 unless every job ended, nothing leaked (Redis keys, files), and what the front end and
the worker that is never killed hold is flat: means over the last third of the time against those over the first, of
memory within 5 %, of threads and of descriptors within three.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import redis

from app.contract import keys
from tests.service import Api, Clips, serving
from worker.demo.processes import Process

EXPIRED_S = 90  # RQ keeps the list of a job's executions for a minute longer than a heartbeat is valid
SAMPLE_S = 5.0
LAST_JOBS_S = 300  # after the last submission, until the last job must have ended
FLAT = 0.05
FEW = 3  # threads or descriptors that come and go with what happens to run
ENDED = frozenset({"succeeded", "failed", "canceled"})
WORKER = (sys.executable, "-m", "worker", "run")

Sample = dict[str, dict[str, int]]  # of each process, what it holds


@dataclass
class Soak:
    """The service under test and what was seen of it."""

    api: Api
    folder: Path
    chance: random.Random
    clips: list[bytes]
    answers: Counter[str] = field(default_factory=Counter)
    jobs: list[str] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    kills: int = 0
    recoveries_s: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def submit(self, count: int, seconds: float) -> None:
        """Jobs, evenly over the time; one in ten is cancelled, one in ten deleted, a moment later."""
        started = time.monotonic()
        for number in range(count):
            time.sleep(max(0, started + number * seconds / count - time.monotonic()))
            while (answer := self._call("POST", "/v1/jobs", self.chance.choice(self.clips))) is None:
                time.sleep(1)
            self.jobs.append(answer["id"])
            fate = self.chance.random()
            if fate < 0.2:
                call = (
                    ("DELETE", f"/v1/jobs/{answer['id']}")
                    if fate < 0.1
                    else ("POST", f"/v1/jobs/{answer['id']}/cancel")
                )
                threading.Timer(self.chance.uniform(0, 8), self._end_early, (answer["id"], *call)).start()

    def kill(self, every_s: float) -> None:
        """SIGKILL for the second worker again and again, while it runs a job, and another in its place."""
        number = 0
        while not self.over.wait(every_s * self.chance.uniform(0.7, 1.3)):
            victim = self.api.service.process(f"killed-{number}")
            while not (running := self._running_on(victim)):
                if self.over.wait(0.05):
                    return
            os.kill(victim.pid, signal.SIGKILL)
            killed = time.monotonic()
            self.kills += 1
            self.api.service.stop(victim)
            number += 1
            self.api.service.start(f"killed-{number}", *WORKER)
            for job_id, attempts in running:
                threading.Thread(target=self._time_recovery, args=(job_id, attempts, killed), daemon=True).start()

    def outages(self, lengths_s: list[float], seconds: float) -> None:
        """Redis goes away for each of the lengths, evenly over the time."""
        port = self.api.service.redis_url.rpartition(":")[2].partition("/")[0]
        files = ["--dir", str(self.folder), "--save", "", "--appendonly", "yes"]
        for length_s in lengths_s:
            if self.over.wait(seconds / (len(lengths_s) + 1)):
                return
            self.api.service.stop(self.api.service.process("redis"))
            time.sleep(length_s)
            self.api.service.start("redis", "redis-server", "--port", port, "--bind", "127.0.0.1", *files)

    def sample(self) -> None:
        """Memory, threads and descriptors of those that live from beginning to end."""
        while not self.over.wait(SAMPLE_S):
            self.samples.append({name: usage(self.api.service.process(name)) for name in ("api", "steady")})

    def wait_for_all(self) -> dict[str, str]:
        """State of every job that was not deleted, once all have ended or time is up."""
        deadline = time.monotonic() + LAST_JOBS_S
        while True:
            states = {job_id: self._state(job_id) for job_id in self.jobs if job_id not in self.deleted}
            if all(state in ENDED for state in states.values()) or time.monotonic() > deadline:
                return states
            time.sleep(2)

    def leaked(self) -> list[str]:
        """Keys that should not be there when all jobs have ended, and files."""
        with redis.Redis.from_url(self.api.service.redis_url) as connection:
            names = [cast(bytes, name).decode() for name in connection.scan_iter("*", count=1000)]
            of_jobs = (keys.job(""), keys.FRAMES, keys.idempotency("", "")[:-1], keys.webhook(""))
            for_ever = [name for name in names if name.startswith(of_jobs) and connection.ttl(name) < 0]
        passing = ("rq:job:", "rq:wip:", "rq:queue:", "rq:execution:", "rq:executions:", keys.upload(""), keys.OPEN)
        files = [str(path) for path in (self.folder / "uploads").rglob("*")]
        return for_ever + [name for name in names if name.startswith(passing)] + files

    def _call(self, method: str, path: str, content: bytes | None = None) -> dict[str, Any] | None:
        headers = {"Content-Type": "video/mp4"} if content else {}
        try:
            answer = httpx.request(
                method, f"{self.api.service.url}{path}", content=content, headers=headers, timeout=60
            )
        except httpx.TransportError as error:
            self.answers[type(error).__name__] += 1
            return None
        self.answers[str(answer.status_code)] += 1
        return cast(dict[str, Any], answer.json() if answer.content else {}) if answer.is_success else None

    def _end_early(self, job_id: str, method: str, path: str) -> None:
        while self._call(method, path) is None and self._state(job_id) not in ENDED | {"gone"}:
            time.sleep(1)
        if method == "DELETE":
            self._call(method, path)
            self.deleted.add(job_id)

    def _state(self, job_id: str) -> str:
        try:
            answer = httpx.get(f"{self.api.service.url}/v1/jobs/{job_id}", timeout=60)
        except httpx.TransportError:
            return "unknown"
        if answer.status_code == httpx.codes.OK:
            return str(answer.json()["state"])
        return "gone" if answer.status_code == httpx.codes.NOT_FOUND else "unknown"

    def _running_on(self, worker: Process) -> list[tuple[str, int]]:
        """The job that its log says it runs, and how often that was tried."""
        lines = [line for line in worker.tail().splitlines() if "job_id=" in line]
        if not lines or "job_started" not in lines[-1]:
            return []
        words = dict(word.partition("=")[::2] for word in lines[-1].split() if "=" in word)
        return [(words["job_id"], int(words["attempt"]))]

    def _time_recovery(self, job_id: str, attempts: int, killed: float) -> None:
        while not self.over.wait(0.2):
            with redis.Redis.from_url(self.api.service.redis_url) as connection:
                try:
                    now = cast(bytes | None, connection.hget(keys.job(job_id), "attempts"))
                except redis.RedisError:
                    continue
            if now is None:
                return
            if int(now) > attempts:
                self.recoveries_s.append(round(time.monotonic() - killed, 1))
                return


def usage(process: Process) -> dict[str, int]:
    """Memory, threads and descriptors of a process."""
    folder = Path(f"/proc/{process.pid}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return {
        "rss_kb": int(status["VmRSS"].split()[0]),
        "threads": int(status["Threads"]),
        "descriptors": len(list((folder / "fd").iterdir())),
    }


def thirds(samples: list[Sample], name: str, what: str) -> tuple[float, float]:
    """Means over the first and the last third of the time."""
    values = [sample[name][what] for sample in samples]
    third = max(len(values) // 3, 1)
    return statistics.mean(values[:third]), statistics.mean(values[-third:])


def report(soak: Soak, states: dict[str, str], leaked: list[str]) -> dict[str, Any]:
    """What is printed; `ok` is the verdict."""
    usage = {
        f"{name}_{what}": [round(value) for value in thirds(soak.samples, name, what)]
        for name in ("api", "steady")
        for what in ("rss_kb", "threads", "descriptors")
    }
    flat = all(
        last <= (first * (1 + FLAT) if key.endswith("rss_kb") else first + FEW) for key, (first, last) in usage.items()
    )
    ended = all(state in ENDED for state in states.values())
    return {
        "ok": flat and ended and not leaked,
        "jobs": len(soak.jobs),
        "deleted": len(soak.deleted),
        "states": dict(Counter(states.values())),
        "answers": dict(soak.answers),
        "kills": soak.kills,
        "recoveries_s": sorted(soak.recoveries_s),
        "first_and_last_third": usage,
        "flat": flat,
        "leaked": leaked[:20],
    }


@contextmanager
def started(seed: int) -> Iterator[Soak]:
    """The service with two workers."""
    with tempfile.TemporaryDirectory(prefix="mien-soak-") as name, serving(Path(name)) as service:
        folder = Path(name)
        service.wait_live()
        with redis.Redis.from_url(service.redis_url) as connection:
            connection.config_set("appendonly", "yes")
        clips = Clips(folder)
        videos = [clips.video(clips.pictures(count)) for count in (3, 10, 30)]
        (folder / "video").unlink(missing_ok=True)
        service.start("steady", *WORKER)
        service.start("killed-0", *WORKER)
        service.wait_ready()
        with httpx.Client(base_url=service.url, timeout=60) as http:
            yield Soak(Api(http, service), folder, random.Random(seed), videos)  # not a secret


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--kill-every", type=float, default=60)
    parser.add_argument("--outages", default="10,60", help="lengths in seconds, comma-separated")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    lengths_s = [float(length) for length in given.outages.split(",") if length]
    with started(given.seed) as soak:
        threads = [
            threading.Thread(target=soak.kill, args=(given.kill_every,), daemon=True),
            threading.Thread(target=soak.outages, args=(lengths_s, given.seconds), daemon=True),
            threading.Thread(target=soak.sample, daemon=True),
        ]
        for thread in threads:
            thread.start()
        soak.submit(given.jobs, given.seconds)
        states = soak.wait_for_all()
        soak.over.set()
        for thread in threads:
            thread.join(60)
        time.sleep(EXPIRED_S)
        found = report(soak, states, soak.leaked())
    print(json.dumps(found))
    raise SystemExit(not found["ok"])


if __name__ == "__main__":
    main()
