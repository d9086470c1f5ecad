"""Resident workers with several jobs at once: slots, heartbeats, and how they stop."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import pytest
import redis
from rq import Queue, Retry
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer

from app.contract import keys
from tests.waiting import until
from worker.jobs import rq_worker
from worker.jobs.rq_worker import ResidentWorker

QUEUE = "mien-test"
PATIENCE_S = 20


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    """An empty Redis."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


class Jobs:
    """Stands in for `label_job`: every job says that it runs and waits until it may end, or until it has to."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.most = 0
        self.takes_s = 0.0  # from being stopped to being back
        self.may_end = threading.Event()
        self.stopping = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, name: str) -> Retry | None:
        with self._lock:
            self.running.add(name)
            self.most = max(self.most, len(self.running))
        try:
            until(lambda: self.may_end.is_set() or self.stopping.is_set())
            time.sleep(self.takes_s)
        finally:
            with self._lock:
                self.running.discard(name)
        return Retry(max=1000) if self.stopping.is_set() else None


@pytest.fixture
def jobs() -> Jobs:
    """What the workers of the test run."""
    return Jobs()


def enqueue(connection: redis.Redis, *names: str) -> list[Job]:
    queue = Queue(QUEUE, connection=connection, serializer=JSONSerializer)
    return [queue.enqueue(keys.LABEL_FUNCTION, name, job_id=name) for name in names]


def waiting(connection: redis.Redis) -> list[str]:
    return Queue(QUEUE, connection=connection, serializer=JSONSerializer).get_job_ids()


def started(connection: redis.Redis) -> list[str]:
    registry = StartedJobRegistry(QUEUE, connection=connection, serializer=JSONSerializer)
    return [member.decode().partition(":")[0] for member in cast(list[bytes], connection.zrange(registry.key, 0, -1))]


@contextmanager
def serving(connection: redis.Redis, jobs: Jobs, concurrency: int) -> Iterator[ResidentWorker]:
    """A worker in a thread, which no signal reaches; stopped at the end."""
    worker = ResidentWorker(
        QUEUE, connection, "worker-of-the-test", {keys.LABEL_FUNCTION: jobs}, jobs.stopping.set, concurrency
    )
    worker._install_signal_handlers = lambda: None  # type: ignore[method-assign]
    thread = threading.Thread(target=worker.serve)
    with ExitStack() as cleanup:
        cleanup.callback(thread.join, PATIENCE_S)
        cleanup.callback(worker.stop)
        thread.start()
        yield worker
    assert not thread.is_alive()


@pytest.mark.parametrize("concurrency", [1, 3])
def test_so_many_jobs_at_once_and_no_more(connection: redis.Redis, jobs: Jobs, concurrency: int) -> None:
    """All slots are used, and a job without one stays in the queue, where other workers find it."""
    names = [f"job{i}" for i in range(5)]
    made = enqueue(connection, *names)
    with serving(connection, jobs, concurrency):
        until(lambda: len(jobs.running) == concurrency)
        time.sleep(0.1)
        assert jobs.running == set(names[:concurrency])
        assert waiting(connection) == names[concurrency:]
        assert connection.llen(IntermediateQueue.get_intermediate_queue_key(f"rq:queue:{QUEUE}")) == 0
        jobs.may_end.set()
        until(lambda: all(job.get_status() == JobStatus.FINISHED for job in made))
    assert jobs.most == concurrency


def test_every_running_job_has_heartbeats(connection: redis.Redis, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time at which a job counts as dead moves on for each of those that run at once."""
    monkeypatch.setenv("MIEN_HEARTBEAT_S", "0.05")
    registry = StartedJobRegistry(QUEUE, connection=connection, serializer=JSONSerializer)

    def scores() -> list[float]:
        return [
            score for _, score in cast(list[tuple[bytes, float]], connection.zrange(registry.key, 0, -1, False, True))
        ]

    enqueue(connection, "first", "second")
    with serving(connection, jobs, 2):
        until(lambda: len(jobs.running) == 2)
        before = max(scores())
        until(lambda: min(scores()) > before)


def test_stopping_hands_every_running_job_back(connection: redis.Redis, jobs: Jobs) -> None:
    """All jobs that run are back in the queue when the worker has stopped, and it takes no other."""
    jobs.takes_s = 2
    enqueue(connection, "first", "second", "third")
    with serving(connection, jobs, 2) as worker:
        until(lambda: len(jobs.running) == 2)
    assert jobs.running == set()
    assert sorted(waiting(connection)) == ["first", "second", "third"]
    assert started(connection) == []
    assert connection.exists(worker.executions_key) == 0
    assert not Job.fetch("third", connection, JSONSerializer).number_of_retries


def test_an_idle_worker_stops(connection: redis.Redis, jobs: Jobs) -> None:
    """One without a job stops, too, and says that it is gone."""
    with serving(connection, jobs, 2) as worker:
        until(lambda: worker.get_state() == "idle")
    assert jobs.stopping.is_set()
    assert connection.hexists(worker.key, "death")


def test_a_job_whose_end_cannot_be_written_stops_nothing(
    connection: redis.Redis, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Redis is unavailable at a job's end, the worker continues with a free slot and stops the job's heartbeats."""
    perform = ResidentWorker.perform_job

    def failing(worker: ResidentWorker, job: Job, *rest: Any) -> bool:
        if job.id == "first":
            raise redis.ConnectionError("away")
        return perform(worker, job, *rest)

    monkeypatch.setattr(ResidentWorker, "perform_job", failing)
    jobs.may_end.set()
    _, second = enqueue(connection, "first", "second")
    with serving(connection, jobs, 1) as worker:
        until(lambda: second.get_status() == JobStatus.FINISHED)
        until(lambda: not worker._running)
    assert started(connection) == ["first"]


def test_an_absent_redis_does_not_end_the_worker(
    connection: redis.Redis, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round that fails is tried again."""
    monkeypatch.setattr(rq_worker, "PAUSE_S", 0.01)
    failures = [redis.ConnectionError("away"), ValueError("odd")]
    pop = ResidentWorker._pop

    def failing(worker: ResidentWorker, timeout: int | None) -> Any:
        if failures:
            raise failures.pop()
        return pop(worker, timeout)

    monkeypatch.setattr(ResidentWorker, "_pop", failing)
    jobs.may_end.set()
    (job,) = enqueue(connection, "first")
    with serving(connection, jobs, 1):
        until(lambda: job.get_status() == JobStatus.FINISHED)


def test_remote_commands(connection: redis.Redis, jobs: Jobs) -> None:
    """Nobody listens for RQ's commands, which would leave a running job marked as stopped and never tried again."""
    enqueue(connection, "first")
    with serving(connection, jobs, 1) as worker:
        until(lambda: len(jobs.running) == 1)
        assert connection.publish(worker.pubsub_channel_name, '{"command": "stop-job", "job_id": "first"}') == 0


PROGRAM = """
import sys, threading
from rq import Retry
from worker.jobs import rq_worker
from worker.jobs.connection import connect
stopping = threading.Event()
def label_job(name):
    print(name, flush=True)
    if sys.argv[2] == "hangs":
        threading.Event().wait()
    stopping.wait()
    return Retry(max=1000)
rq_worker.STOP_S, rq_worker.AGAIN_S = float(sys.argv[3]), 0
rq_worker.ResidentWorker("mien-test", connect(sys.argv[1]), "name", {"mien.label": label_job}, stopping.set, 2).serve()
"""


@contextmanager
def program(redis_url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has two jobs to run and is at them both."""
    command = [sys.executable, "-c", PROGRAM, redis_url, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert {process.stdout.readline().strip() for _ in range(2)} == {"first", "second"}
            yield process
        finally:
            process.kill()


def test_sigterm(connection: redis.Redis, redis_url: str) -> None:
    """The signal hands both jobs back, and the process ends in good order."""
    enqueue(connection, "first", "second")
    with program(redis_url, "waits", "20") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert sorted(waiting(connection)) == ["first", "second"]


def test_jobs_that_hang_do_not_keep_the_process(connection: redis.Redis, redis_url: str) -> None:
    """Jobs that do not end after SIGTERM are left for others: the process ends without them."""
    enqueue(connection, "first", "second")
    with program(redis_url, "hangs", "0.2") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 1
    assert sorted(started(connection)) == ["first", "second"]


def test_a_second_signal_ends_at_once(connection: redis.Redis, redis_url: str) -> None:
    """Whoever asks twice does not wait for jobs."""
    enqueue(connection, "first", "second")
    with program(redis_url, "hangs", "600") as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 1
