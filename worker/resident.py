"""RQ workers that keep what they loaded: jobs run in this process, never in a fork.

RQ's own `SimpleWorker` does that too but sends no heartbeat while a job runs, so a dead one is noticed only after the
job's whole timeout; and any RQ worker runs whatever function a job names.  Both are mended here.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable
from typing import Any

import redis
import structlog
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer

from app.contract import keys

HEARTBEAT_S = 5  # a running job's heartbeat ...
HEARTBEAT_TTL_S = 20  # ... without which it counts as dead after so long
IDLE_S = 30  # an idle worker looks up from its queue half as often, to look after lost jobs
MAINTENANCE_S = 10
ALLOWED = frozenset({keys.LABEL_FUNCTION, keys.RENDER_FUNCTION})

log = structlog.get_logger(__name__)


def connect(redis_url: str) -> redis.Redis:
    """A connection that rides out a short absence of Redis: about half a minute of growing pauses, then RedisError."""
    retry = Retry(ExponentialBackoff(cap=5, base=0.1), retries=12)
    return redis.Redis.from_url(redis_url, retry=retry, retry_on_error=[redis.ConnectionError])


def process_name() -> str:
    """A name for this process that no other worker has, by which an operator finds its host and process id."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


class NotAllowedError(Exception):
    """A job names a function that workers do not run."""


class AllowedJob(Job):
    """A job that may only name the functions of the contract: whoever can write to Redis cannot run others."""

    @property
    def func(self) -> Any:
        """The function, or NotAllowedError."""
        if self.func_name not in ALLOWED or self.instance:
            raise NotAllowedError("this worker does not run that function")
        return super().func


class ResidentWorker(SimpleWorker):
    """Runs jobs in this process, with heartbeats.  on_stop: called at the first SIGTERM, while a job may run."""

    def __init__(self, queue: str, connection: redis.Redis, name: str, on_stop: Callable[[], None]) -> None:
        self._on_stop = on_stop
        queues = [Queue(queue, connection=connection, serializer=JSONSerializer, job_class=AllowedJob)]
        super().__init__(
            queues,
            name=name,
            connection=connection,
            serializer=JSONSerializer,
            job_class=AllowedJob,
            worker_ttl=IDLE_S,
            maintenance_interval=MAINTENANCE_S,
            job_monitoring_interval=HEARTBEAT_S,
            log_job_description=False,
        )

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        return HEARTBEAT_TTL_S

    def execute_job(self, job: Job, queue: Queue) -> None:
        execution = self.prepare_execution(job)
        done = threading.Event()

        def beat() -> None:
            while not done.wait(HEARTBEAT_S):
                try:
                    self.maintain_heartbeats(job, execution)
                except redis.RedisError as error:  # the next one may get through
                    log.warning("heartbeat_not_sent", job_id=job.id, error=str(error))

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            self.perform_job(job, queue, execution)
        finally:
            done.set()
            thread.join()
        self.set_state("idle")

    def handle_warm_shutdown_request(self) -> None:
        self._on_stop()


def run_until_stopped(worker: ResidentWorker) -> None:
    """Take jobs until SIGTERM.  The process has no scheduler: nothing forks."""
    worker.work(with_scheduler=False, logging_level="WARNING")
