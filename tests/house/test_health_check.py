"""The worker container's health check: only a live worker of the same host makes it healthy."""

from __future__ import annotations

import runpy
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.contract import keys
from app.contract.jobs import utc_now
from app.contract.workers import WorkerInfo, WorkerState, process_name
from worker.jobs.registration import Registration

SCRIPT = Path(__file__).resolve().parents[2] / "docker" / "check_worker.py"
HOST = "gpu-1"


@pytest.fixture
def connection(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """An empty Redis, which the check asks on the host `gpu-1`."""
    monkeypatch.setenv("MIEN_REDIS_URL", redis_url)
    monkeypatch.setattr(socket, "gethostname", lambda: HOST)
    with redis.Redis.from_url(redis_url) as client:
        yield client


def status_beside(connection: redis.Redis, name: str, state: WorkerState = "ready") -> int:
    """The check's exit status while this worker is alone."""
    info = WorkerInfo(name=name, state=state, bundle="default", queue="mien-default", started_at=utc_now())
    registration = Registration(connection, info)
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT))
    finally:
        registration.close()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(("state", "status"), [("ready", 0), ("busy", 0), ("starting", 1), ("stopping", 1)])
def test_a_worker_that_takes_jobs_is_healthy(connection: redis.Redis, state: WorkerState, status: int) -> None:
    """A starting or stopping worker is unhealthy."""
    assert status_beside(connection, f"{HOST}-17-abcdef", state) == status


@pytest.mark.parametrize("name", ["gpu-10-17-abcdef", "big-gpu-1-17-abcdef", "gpu-17-abcdef", "other-1-gpu-1"])
def test_workers_of_other_hosts_do_not_count(connection: redis.Redis, name: str) -> None:
    """Also if one host's name is a part of another's."""
    assert status_beside(connection, name) == 1


@pytest.mark.parametrize("ahead_s", [-3600, 3600])
def test_this_hosts_clock_does_not_count(
    connection: redis.Redis, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    """Redis' clock decides whether a worker is alive; a wrong clock of the host has no effect."""
    here = time.time
    monkeypatch.setattr(time, "time", lambda: here() + ahead_s)
    assert status_beside(connection, f"{HOST}-17-abcdef") == 0
    connection.zadd(keys.WORKERS, {f"{HOST}-18-abcdef": connection.time()[0] + ahead_s})  # its record has expired
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT))
    assert ended.value.code == 1


def test_the_name_of_this_process_has_its_host(connection: redis.Redis) -> None:
    """The check parses the names that workers use."""
    assert status_beside(connection, process_name()) == 0
