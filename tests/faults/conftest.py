"""A service with a short heartbeat, a Redis that can be restarted, and signals for its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
import redis

from app.contract import keys
from tests.service import Api, serving
from tests.waiting import until

if TYPE_CHECKING:
    from tests.service import Clips, Record, Service
    from worker.demo.processes import Process

HEARTBEAT_S = "1"  # so a lease ends after four seconds, and recovery runs every two seconds
QUEUE = "mien-default"
FRAMES = 140  # two chunks and a rest


def send(process: Process, number: signal.Signals) -> None:
    """A signal to this one process, not to its children."""
    os.kill(process.pid, number)


def kill(service: Service, process: Process) -> None:
    """Send SIGKILL and wait for its end."""
    send(process, signal.SIGKILL)
    service.stop(process)


@dataclass
class Faulty:
    """A client of a service whose parts can be killed or stopped."""

    api: Api
    folder: Path
    sound_worker: Process | None = None

    @property
    def service(self) -> Service:
        """The processes."""
        return self.api.service

    def connection(self) -> redis.Redis:
        """A connection to its Redis."""
        return redis.Redis.from_url(self.service.redis_url)

    def launch(self, name: str, *faults: str) -> Process:
        """A worker with a fault, see `launch`."""
        return self.service.start(name, sys.executable, "-m", "tests.faults.launch", str(self.folder), *faults)

    def happens(self, what: str) -> Path:
        """The file by which something happens to workers."""
        return self.folder / what

    def worker(self, name: str, *faults: str) -> Process:
        """The same, ready."""
        before = self._ready()
        process = self.launch(name, *faults)

        def is_ready() -> bool:
            process.check()
            return bool(self._ready() - before)

        until(is_ready)
        return process

    def sound(self) -> Process:
        """A healthy worker: the existing one, or a new one."""
        if self.sound_worker is None:
            self.sound_worker = self.worker(f"sound-{time.monotonic()}")
        return self.sound_worker

    def stop_sound(self) -> str:
        """Stop it, if there is one; the end of its log."""
        worker, self.sound_worker = self.sound_worker, None
        return self.service.stop(worker) if worker else ""

    def kill_sound(self) -> None:
        """Kill it."""
        kill(self.service, self.sound())
        self.sound_worker = None

    def _ready(self) -> set[str]:
        body = self.api.http.get("/health/ready").json()
        return {worker["name"] for worker in body["workers"] if worker["state"] in {"ready", "busy"}}

    def waiting(self) -> list[str]:
        """Jobs in the queue."""
        with self.connection() as connection:
            return [name.decode() for name in cast(list[bytes], connection.lrange(keys.rq_queue(QUEUE), 0, -1))]

    def records(self, job: Record) -> list[Record]:
        """All records of an ended job."""
        return self.api.frames(job["id"], members="true", limit=1000)

    def stop_redis(self) -> None:
        """As an operator does: it writes its append-only file and ends."""
        self.service.stop(self.service.process("redis"))

    def start_redis(self) -> None:
        """The same Redis again, from its file."""
        port = self.service.redis_url.rpartition(":")[2].partition("/")[0]
        self.service.start("redis", *redis_command(port, self.folder))
        until(self._answers)

    def _answers(self) -> bool:
        try:
            with self.connection() as connection:
                return bool(connection.ping())
        except redis.RedisError:
            return False


def redis_command(port: str, folder: Path) -> list[str]:
    """A persistent Redis, as in the compose file."""
    files = ["--dir", str(folder), "--save", "", "--appendonly", "yes"]
    return ["redis-server", "--port", port, "--bind", "127.0.0.1", *files]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    """Redis with an append-only file, and the API; no worker."""
    folder = tmp_path_factory.mktemp("faulty")
    with (
        serving(folder, MIEN_HEARTBEAT_S=HEARTBEAT_S, MIEN_MIN_UPLOAD_RATE="0") as service,
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as http,
    ):
        faulty = Faulty(Api(http, service), folder)
        until(faulty._answers)
        with faulty.connection() as connection:
            connection.config_set("appendonly", "yes")
            until(lambda: not cast(dict[str, Any], connection.info("persistence"))["aof_rewrite_in_progress"])
        service.wait_live()
        yield faulty


@pytest.fixture(scope="session")
def clip(clips: Clips) -> bytes:
    """Takes a few seconds to label."""
    return clips.video(clips.pictures(FRAMES, (320, 240)))


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("mounting a small file system takes root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
