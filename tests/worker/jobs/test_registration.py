"""A worker's record: running and finished jobs, and its readers."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
import redis

from app.contract import keys
from app.contract.heartbeats import WORKER_TTL_S
from app.contract.jobs import utc_now
from app.contract.workers import ModelInfo, WorkerInfo
from tests.waiting import until
from worker.jobs.registration import Registration

NAME = "worker-of-the-test"


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    """An empty Redis."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def registration(connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registration]:
    """A worker's that is ready."""
    monkeypatch.setattr("app.contract.heartbeats.WORKER_S", 0.05)
    info = WorkerInfo(name=NAME, state="ready", bundle="default", queue="mien-default", started_at=utc_now())
    registration = Registration(connection, info, lambda: {"gpu_memory_bytes": 123})
    yield registration
    registration.close()


def said(connection: redis.Redis) -> WorkerInfo:
    return WorkerInfo.model_validate_json(cast(bytes, connection.get(keys.worker(NAME))))


def test_busy_while_any_job_runs(registration: Registration, connection: redis.Redis) -> None:
    """With several jobs at once, the worker is ready again only after the last; only ended ones are counted."""
    seen = []
    registration.job_started()
    registration.job_started()
    for ended in (True, False):
        seen.append((said(connection).state, said(connection).jobs_running))
        registration.job_left(ended=ended)
    now = said(connection)
    assert seen == [("busy", 2), ("busy", 1)]
    assert (now.state, now.jobs_running, now.jobs_done, now.gpu_memory_bytes) == ("ready", 0, 1, 123)


def test_jobs_of_many_threads_are_counted_once_each(registration: Registration, connection: redis.Redis) -> None:
    """Jobs that start and end at the same moment are all in the count."""

    def job(_: int) -> None:
        registration.job_started()
        registration.job_left(ended=True)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(job, range(200)))
    assert (said(connection).jobs_done, said(connection).jobs_running) == (200, 0)


def test_a_worker_that_stops_says_so_to_the_end(registration: Registration, connection: redis.Redis) -> None:
    """Jobs that leave a stopping worker do not make it look ready."""
    registration.job_started()
    registration.say(state="stopping")
    registration.job_left(ended=False)
    assert said(connection).state == "stopping"


def test_an_idle_worker_is_ready(registration: Registration, connection: redis.Redis) -> None:
    """A worker after an idle release takes jobs, and its record says why the next one waits."""
    registration.say(detail="idle")
    assert (said(connection).state, said(connection).detail) == ("ready", "idle")


def test_what_redis_has_lost_is_said_again(registration: Registration, connection: redis.Redis) -> None:
    """Worker and bundle are known again after Redis came back empty."""
    provenance: dict[str, str] = {}
    model = ModelInfo(
        name="default",
        version="1",
        queue="mien-default",
        labels=("a",),
        window=1,
        members=(),
        metrics=[],
        provenance=provenance,
        licence="MIT",
        intended_use="tests",
    )
    registration.register(model)
    connection.flushall()
    until(lambda: connection.hexists(keys.MODELS, "default"))
    assert ModelInfo.model_validate_json(cast(bytes, connection.hget(keys.MODELS, "default"))) == model
    assert connection.zrange(keys.WORKERS, 0, -1) == [NAME.encode()]


def test_workers_that_died_are_forgotten(registration: Registration, connection: redis.Redis) -> None:
    """By the clock of Redis, not this host's: dead names are removed, and live workers stay."""
    now = connection.time()[0]
    connection.zadd(keys.WORKERS, {"dead": now - 2 * WORKER_TTL_S, "alive": now})
    until(lambda: connection.zscore(keys.WORKERS, "dead") is None)
    assert {*cast(list[bytes], connection.zrange(keys.WORKERS, 0, -1))} == {b"alive", NAME.encode()}
    assert abs(cast(float, connection.zscore(keys.WORKERS, NAME)) - now) < WORKER_TTL_S


def test_memory_is_counted_in_the_pages_that_the_machine_has(
    registration: Registration, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages have 4, 16 or 64 KiB, by machine and kernel."""
    monkeypatch.setattr(resource, "getpagesize", lambda: 65536)
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    registration.say(detail="looked")
    said_bytes = said(connection).rss_bytes
    assert said_bytes is not None
    assert 0.5 < said_bytes / (65536 * resident) < 2


def test_an_absent_redis_fails_no_job(
    registration: Registration, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed update is sent with the next heartbeat."""

    def away() -> None:
        raise redis.ConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(registration, "_beat", away)
        registration.job_started()
        registration.job_left(ended=True)
        assert said(connection).jobs_done == 0
    until(lambda: said(connection).jobs_done == 1)
