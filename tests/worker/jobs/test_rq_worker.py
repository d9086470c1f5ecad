"""Resident workers: they run the functions of the contract and no others."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import rq.registry
from rq import Callback, Queue, Webhook
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from app.contract import keys
from app.contract.renditions import VIDEO
from app.contract.settings import SharedSettings
from worker.jobs import label_job
from worker.jobs.rq_worker import Functions, NotAllowedError, ResidentWorker, allowing

QUEUE = "mien-test"


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    """An empty Redis; the worker's signal handlers are undone afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with redis.Redis.from_url(redis_url) as client:
        yield client
    for number, handler in handlers.items():
        signal.signal(number, handler)


def nothing(job_id: str) -> None:
    """What a worker of these tests does with a job, where it does not matter."""


LABELS: Functions = {keys.LABEL_FUNCTION: nothing}


def run(connection: redis.Redis, name: str, *arguments: object, label: Callable[[str], object] = nothing) -> Job:
    """Enqueue a call, let a worker that labels with `label` empty the queue, and give the job back."""
    job: Job = Queue(QUEUE, connection=connection, serializer=JSONSerializer).enqueue(name, *arguments)
    worker = ResidentWorker(QUEUE, connection, "worker-of-the-test", {keys.LABEL_FUNCTION: label}, lambda: None)
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
        VIDEO.function,
        "app.contract.keys.job",
        "",
        "builtins.eval",
    ],
)
def test_the_list_is_exact(connection: redis.Redis, function: str) -> None:
    """Neighbours of an allowed function, and builtins, are not allowed either."""
    job = allowing(LABELS).create("os.getpid", connection=connection, serializer=JSONSerializer)
    job._func_name = function
    with pytest.raises(NotAllowedError):
        _ = job.func


def test_methods_are_not_run(connection: redis.Redis) -> None:
    """A job that carries an object to call a method of is refused, whatever the method is called."""
    job = allowing(LABELS).create(keys.LABEL_FUNCTION, connection=connection, serializer=JSONSerializer)
    assert job.func is nothing
    job._instance = "an object"
    with pytest.raises(NotAllowedError):
        _ = job.func


def test_jobs_that_earlier_releases_queued_are_run(connection: redis.Redis) -> None:
    """The names by which jobs ask for something never change; those of earlier releases mean the same."""

    def other(job_id: str) -> None:
        raise AssertionError(job_id)

    functions = {"mien.label": nothing, "mien.render": other}
    names = {"worker.service.label_job": nothing, "worker.render.render_job": other, **functions}
    for name, function in names.items():
        job = allowing(functions).create(name, connection=connection, serializer=JSONSerializer)
        assert job.func is function


@pytest.mark.parametrize("name", ["mien.label", "worker.service.label_job"])
def test_a_job_whose_function_raises_is_left_to_recovery(connection: redis.Redis, name: str) -> None:
    """A labelling job whose function raises is not RQ's failure, by whichever name it was queued."""

    def lost(_: str) -> None:
        raise RuntimeError("device lost")

    assert run(connection, name, "0" * 32, label=lost).get_status() == JobStatus.STARTED


def test_the_contracts_functions_are_run_here(connection: redis.Redis) -> None:
    """A job of the contract runs in this very process, with its arguments."""
    called: list[str] = []
    job = run(connection, keys.LABEL_FUNCTION, "0" * 32, label=called.append)
    assert job.get_status() == JobStatus.FINISHED
    assert called == ["0" * 32]


@pytest.mark.parametrize("off_s", [-300, 300])
def test_a_lease_counts_by_the_clock_of_redis(
    connection: redis.Redis, monkeypatch: pytest.MonkeyPatch, off_s: int
) -> None:
    """From the start of a job, whatever the clock of the worker's host shows: else recovery takes it for lost."""
    leases_s: list[float] = []

    def look(_: str) -> None:
        ((_, ends),) = cast(Any, connection.zrange(keys.rq_running(QUEUE), 0, -1, withscores=True))
        leases_s.append(ends - time.time())

    monkeypatch.setattr(rq.registry, "current_timestamp", lambda: int(time.time()) + off_s)
    run(connection, keys.LABEL_FUNCTION, "0" * 32, label=look)
    assert leases_s == [pytest.approx(SharedSettings().heartbeat_ttl_s, abs=5)]


def test_a_silent_connection_is_given_up_before_leases_end(connection: redis.Redis) -> None:
    """RQ would wait for answers of Redis for longer than a lease: a broken network would cost more than it lasts."""
    ResidentWorker(QUEUE, connection, "worker-of-the-test", LABELS, lambda: None)
    assert connection.connection_pool.connection_kwargs.get("socket_timeout", 0) <= SharedSettings().heartbeat_s


def test_what_a_job_wants_called_at_its_end_is_not(connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """RQ calls functions and sends webhooks that a job in Redis names; for Mien's workers a job names none."""
    called: list[Any] = []
    monkeypatch.setattr(label_job, "elsewhere", lambda *arguments: called.append(arguments), raising=False)
    monkeypatch.setattr("rq.webhook.Webhook.send", lambda *arguments, **more: called.append(arguments))
    wanted = Callback("worker.jobs.label_job.elsewhere")
    queue = Queue(QUEUE, connection=connection, serializer=JSONSerializer)
    for function in (keys.LABEL_FUNCTION, "os.getpid"):
        job = queue.enqueue(function, "0" * 32, on_success=wanted, on_failure=wanted, on_stopped=wanted)
        job.webhooks = [Webhook("http://127.0.0.1:9/", "finished"), Webhook("http://127.0.0.1:9/", "failed")]
        job.save()
    ResidentWorker(QUEUE, connection, "worker-of-the-test", LABELS, lambda: None).serve(burst=True)
    assert not queue.job_ids
    assert called == []


def test_a_drained_worker_takes_no_job(connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it may again: the job waits in its queue meanwhile."""
    monkeypatch.setattr("worker.jobs.rq_worker.POLL_S", 0.01)
    waiting: list[int] = []

    def is_drained() -> bool:
        waiting.append(int(connection.llen(f"rq:queue:{QUEUE}")))
        return len(waiting) < 4

    ran: list[str] = []
    Queue(QUEUE, connection=connection, serializer=JSONSerializer).enqueue(keys.LABEL_FUNCTION, "a job")
    functions: Functions = {keys.LABEL_FUNCTION: ran.append}
    worker = ResidentWorker(QUEUE, connection, "drained", functions, lambda: None, is_drained=is_drained)
    worker.serve(burst=True)
    assert waiting[:4] == [1] * 4
    assert ran == ["a job"]


def test_the_urgent_queue_has_four_turns_of_five(connection: redis.Redis) -> None:
    """Of two queues that are full the urgent one is taken from first and more often, and neither waits for ever; every
    pop leaves the job in its queue's list of those just taken, as RQ's crash-safe pop does."""
    order: list[str] = []
    for queue in (QUEUE, f"{QUEUE}:interactive"):
        for number in range(7):
            job_id = f"{'u' if queue.endswith('interactive') else 'b'}{number}"
            Queue(queue, connection=connection, serializer=JSONSerializer).enqueue(
                keys.LABEL_FUNCTION, job_id, job_id=job_id
            )
    functions: Functions = {keys.LABEL_FUNCTION: order.append}
    worker = ResidentWorker(
        QUEUE, connection, "two-queues", functions, lambda: None, urgent_queue=f"{QUEUE}:interactive"
    )
    popped = worker._pop(None)
    assert popped is not None
    assert connection.lrange(f"rq:queue:{QUEUE}:interactive:intermediate", 0, -1) == [b"u0"]
    worker.serve(burst=True)
    assert order == ["u1", "u2", "u3", "b0", "u4", "u5", "u6", "b1", "b2", "b3", "b4", "b5", "b6"]
