"""Resident workers: they run the functions of the contract and no others."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from rq import Callback, Queue, Webhook
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from app.contract import keys
from worker import service
from worker.resident import ALLOWED, AllowedJob, NotAllowedError, ResidentWorker

QUEUE = "mien-test"


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    """An empty Redis; the worker's signal handlers are undone afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with redis.Redis.from_url(redis_url) as client:
        yield client
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run(connection: redis.Redis, function: str, *arguments: object) -> Job:
    """Enqueue a call, let a worker empty the queue, and give the job back."""
    job: Job = Queue(QUEUE, connection=connection, serializer=JSONSerializer).enqueue(function, *arguments)
    worker = ResidentWorker(QUEUE, connection, "worker-of-the-test", lambda: None)
    worker.serve(burst=True)
    job.refresh()  # type: ignore[no-untyped-call]
    return job


def test_a_function_outside_the_list_is_not_run(connection: redis.Redis, tmp_path: Path) -> None:
    """A job that names any other function fails, and the function is never called."""
    made = tmp_path / "made"
    job = run(connection, "os.mkdir", str(made))
    assert job.get_status() == JobStatus.FAILED
    assert not made.exists()


@pytest.mark.parametrize(
    "function",
    ["os.system", "worker.service.install", "worker.service.os.system", "app.contract.keys.job", "", "builtins.eval"],
)
def test_the_list_is_exact(connection: redis.Redis, function: str) -> None:
    """Neighbours of an allowed function, and builtins, are not allowed either."""
    job = AllowedJob.create("os.getpid", connection=connection, serializer=JSONSerializer)
    job._func_name = function
    with pytest.raises(NotAllowedError):
        _ = job.func


def test_methods_are_not_run(connection: redis.Redis) -> None:
    """A job that carries an object to call a method of is refused, whatever the method is called."""
    job = AllowedJob.create(keys.LABEL_FUNCTION, connection=connection, serializer=JSONSerializer)
    assert job.func is service.label_job
    job._instance = "an object"
    with pytest.raises(NotAllowedError):
        _ = job.func


def test_the_contracts_functions_are_run_here(connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of the contract runs in this very process, with its arguments."""
    assert {keys.LABEL_FUNCTION, keys.RENDER_FUNCTION} == ALLOWED
    called: list[Any] = []
    monkeypatch.setattr(service, "label_job", lambda *arguments: called.append(arguments))
    job = run(connection, keys.LABEL_FUNCTION, "0" * 32)
    assert job.get_status() == JobStatus.FINISHED
    assert called == [("0" * 32,)]


def test_what_a_job_wants_called_at_its_end_is_not(connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """RQ calls functions and sends webhooks that a job in Redis names; for Mien's workers a job names none."""
    called: list[Any] = []
    monkeypatch.setattr(service, "label_job", lambda *arguments: None)
    monkeypatch.setattr(service, "elsewhere", lambda *arguments: called.append(arguments), raising=False)
    monkeypatch.setattr("rq.webhook.Webhook.send", lambda *arguments, **more: called.append(arguments))
    wanted = Callback("worker.service.elsewhere")
    queue = Queue(QUEUE, connection=connection, serializer=JSONSerializer)
    for function in (keys.LABEL_FUNCTION, "os.getpid"):
        job = queue.enqueue(function, "0" * 32, on_success=wanted, on_failure=wanted, on_stopped=wanted)
        job.webhooks = [Webhook("http://127.0.0.1:9/", "finished"), Webhook("http://127.0.0.1:9/", "failed")]
        job.save()
    ResidentWorker(QUEUE, connection, "worker-of-the-test", lambda: None).serve(burst=True)
    assert not queue.job_ids
    assert called == []
