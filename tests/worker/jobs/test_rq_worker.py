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
from worker.jobs import label_job, render_job
from worker.jobs.rq_worker import FUNCTIONS, AllowedJob, NotAllowedError, ResidentWorker

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
    [
        "os.system",
        "worker.jobs.label_job.label_job",
        "worker.jobs.label_job:label_job",
        "worker.service.install",
        "app.contract.keys.job",
        "",
        "builtins.eval",
    ],
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
    assert job.func is label_job.label_job
    job._instance = "an object"
    with pytest.raises(NotAllowedError):
        _ = job.func


def test_every_function_of_the_contract_is_code(connection: redis.Redis) -> None:
    """What a job of the contract asks for is a function here, also by the names of earlier releases."""
    assert set(FUNCTIONS) == {keys.LABEL_FUNCTION, keys.RENDER_FUNCTION}
    expected = {
        "mien.label": label_job.label_job,
        "worker.service.label_job": label_job.label_job,
        "mien.render": render_job.render_job,
        "worker.render.render_job": render_job.render_job,
    }
    for name, function in expected.items():
        assert AllowedJob.create(name, connection=connection, serializer=JSONSerializer).func is function


@pytest.mark.parametrize("name", ["mien.label", "worker.service.label_job"])
def test_a_job_that_was_queued_before_is_left_to_recovery(
    connection: redis.Redis, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A labelling job whose function raises is not RQ's failure, by whichever name it was queued."""

    def lost(_: str) -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(label_job, "label_job", lost)
    assert run(connection, name, "0" * 32).get_status() == JobStatus.STARTED


def test_the_contracts_functions_are_run_here(connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of the contract runs in this very process, with its arguments."""
    called: list[Any] = []
    monkeypatch.setattr(label_job, "label_job", lambda *arguments: called.append(arguments))
    job = run(connection, keys.LABEL_FUNCTION, "0" * 32)
    assert job.get_status() == JobStatus.FINISHED
    assert called == [("0" * 32,)]


def test_what_a_job_wants_called_at_its_end_is_not(connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """RQ calls functions and sends webhooks that a job in Redis names; for Mien's workers a job names none."""
    called: list[Any] = []
    monkeypatch.setattr(label_job, "label_job", lambda *arguments: None)
    monkeypatch.setattr(label_job, "elsewhere", lambda *arguments: called.append(arguments), raising=False)
    monkeypatch.setattr("rq.webhook.Webhook.send", lambda *arguments, **more: called.append(arguments))
    wanted = Callback("worker.jobs.label_job.elsewhere")
    queue = Queue(QUEUE, connection=connection, serializer=JSONSerializer)
    for function in (keys.LABEL_FUNCTION, "os.getpid"):
        job = queue.enqueue(function, "0" * 32, on_success=wanted, on_failure=wanted, on_stopped=wanted)
        job.webhooks = [Webhook("http://127.0.0.1:9/", "finished"), Webhook("http://127.0.0.1:9/", "failed")]
        job.save()
    ResidentWorker(QUEUE, connection, "worker-of-the-test", lambda: None).serve(burst=True)
    assert not queue.job_ids
    assert called == []
