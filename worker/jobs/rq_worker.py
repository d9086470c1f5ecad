"""RQ workers that keep what they loaded: jobs run in this process, on threads, never in a fork.

RQ's own `SimpleWorker` stays in its process too, but runs one job at a time, sends no heartbeat while it runs, so that
a dead one is noticed only after the job's whole timeout, and runs whatever function a job names.  All three are mended
here.  RQ does the bookkeeping of queue and jobs; the loop, the threads and the stopping are ours.

A job's record says which execution has it (`app.contract.scripts.transitions`); `app.background.recovery` has jobs
started again whose worker died.  So a worker neither retries jobs nor looks after those of others, and touches nothing
of a job that it lost to another.  This is the one module of the worker that knows RQ.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import FrameType, TracebackType
from typing import Any, ClassVar

import redis
import structlog
from rq import Queue, Retry, SimpleWorker
from rq.exceptions import DequeueTimeout
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.timeouts import BaseDeathPenalty
from rq.worker import WorkerStatus

from app.contract import heartbeats, keys
from app.contract.scripts.workers import EXECUTION_BEAT
from app.contract.settings import SharedSettings

POLL_S = 1  # how long it waits for a slot, and then for a job, before it looks up
PAUSE_S = 2  # after Redis did not answer
STOP_S = 8  # jobs that have not ended so long after SIGTERM are given up ...
GIVING_UP_S = 1  # ... for which there is so much time
AGAIN_S = 1  # a second signal sooner than this is an echo of the first (Ctrl-C reaches parent and child)

# What a job returns that is to be done again by another process, as often as there are deploys.
AGAIN = Retry(max=1000)

Functions = Mapping[str, Callable[[str], object]]  # by their names in the contract

log = structlog.get_logger(__name__)


class HasSuccessorError(Exception):
    """The job that runs here is another execution's now: nothing of it is ours any more."""


class NotAllowedError(Exception):
    """A job names a function that workers do not run."""


def function_of(job: Job) -> str:
    """What a job asks for, by its present name.  "" where that is no name at all."""
    name = job.func_name or ""
    return keys.FORMER_FUNCTIONS.get(name, name)


class AllowedJob(Job):
    """Imports nothing and calls nothing that it names, but for one of `functions`."""

    functions: ClassVar[Functions] = {}

    @property
    def func(self) -> Any:
        """The function, or NotAllowedError."""
        function = self.functions.get(function_of(self))
        if function is None or self.instance:
            raise NotAllowedError("this worker does not run that function")
        return function

    # A job in Redis may name functions and addresses to be called at its end; Mien's jobs have none.
    @property
    def success_callback(self) -> None:
        return None

    @property
    def failure_callback(self) -> None:
        return None

    @property
    def stopped_callback(self) -> None:
        return None

    def send_webhooks(self, status: str | JobStatus, *, exc_string: str | None = None) -> None:
        pass


def allowing(functions: Functions) -> type[AllowedJob]:
    """Jobs that may ask for these functions, by their names in the contract: who can write to Redis runs no others."""

    class Allowed(AllowedJob):
        """See `allowing`."""

    Allowed.functions = functions
    return Allowed


class _NoDeathPenalty(BaseDeathPenalty):
    """RQ's time limit is SIGALRM, which only the main thread gets; our jobs look at their own clock."""

    def setup_death_penalty(self) -> None:
        pass

    def cancel_death_penalty(self) -> None:
        pass


class ResidentWorker(SimpleWorker):
    """Runs up to `concurrency` jobs at once in this process, with heartbeats.

    functions: what jobs may ask for.
    on_stop: called once, from a thread, at the first SIGTERM; running jobs are then to end soon by themselves.
    on_giving_up: called, from a thread, if they do not, just before the process ends.
    is_drained: whether no jobs are to be taken now.
    """

    death_penalty_class = _NoDeathPenalty

    def __init__(
        self,
        queue_name: str,
        connection: redis.Redis,
        name: str,
        functions: Functions,
        on_stop: Callable[[], None],
        concurrency: int = 1,
        settings: SharedSettings | None = None,
        on_giving_up: Callable[[], None] = lambda: None,
        is_drained: Callable[[], bool] = lambda: False,
    ) -> None:
        job_class = allowing(functions)
        queues = [Queue(queue_name, connection=connection, serializer=JSONSerializer, job_class=job_class)]
        super().__init__(
            queues,
            name=name,
            connection=connection,
            serializer=JSONSerializer,
            job_class=job_class,
            worker_ttl=heartbeats.RQ_WORKER_TTL_S,
            log_job_description=False,
        )
        settings = settings or SharedSettings()
        self._heartbeat_s, self._heartbeat_ttl_s = settings.heartbeat_s, settings.heartbeat_ttl_s
        self._on_stop, self._on_giving_up = on_stop, on_giving_up
        self._is_drained = is_drained
        self._slots = threading.Semaphore(concurrency)
        self._pool = ThreadPoolExecutor(concurrency, "job")
        self._running: dict[str, tuple[Job, Execution]] = {}  # by execution
        self._over = threading.Event()
        # The one queue that a signal handler may put into: whatever it interrupted, it never waits for a lock.
        self._signals: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def serve(self, *, burst: bool = False) -> None:
        """Take jobs until SIGTERM, or with `burst` until none waits; then wait for those that run.

        Nothing forks: there is no scheduler.
        """
        self.bootstrap("WARNING")
        self._install_signal_handlers()  # type: ignore[no-untyped-call]
        threads = [threading.Thread(target=target, daemon=True) for target in (self._beat, self._stop_when_told)]
        for thread in threads:
            thread.start()
        try:
            while not self._stop_requested:
                try:
                    taken = self._round(burst)
                except redis.RedisError as error:
                    log.warning("redis_away", error=str(error))
                    time.sleep(PAUSE_S)
                except Exception:  # a job whose record cannot be read, say, must not keep others from running
                    log.exception("round_failed")
                    time.sleep(PAUSE_S)
                else:
                    if burst and taken is False:
                        break
            self._pool.shutdown()  # before `teardown`, which forgets the executions
            self.teardown()  # type: ignore[no-untyped-call]
        except redis.RedisError as error:  # what it would have removed expires by itself
            log.warning("goodbye_not_sent", error=str(error))
        finally:
            self._over.set()
            self._signals.put(None)
            for thread in threads:
                thread.join()

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        return self._heartbeat_ttl_s

    def request_stop(self, signum: int, frame: FrameType | None = None) -> None:
        """SIGTERM or SIGINT.  The first: take no more jobs and have the running ones end; the second: end at once."""
        self._signals.put(signum)

    def stop(self) -> None:
        """Stop as at SIGTERM; from any thread."""
        self._signals.put(signal.SIGTERM)

    def subscribe(self) -> None:
        """RQ's remote commands are not listened to: they kill child processes, and there are none.  A job is cancelled
        in its record, which it reads itself."""

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Say that an execution lives, unless it was given up already."""
        ttl = self.get_heartbeat_ttl(job)
        touched = [keys.rq_running(job.origin), execution.key, self.key]
        said = [execution.composite_key, str(ttl), str(heartbeats.RQ_BUSY_WORKER_TTL_S)]
        self.connection.eval(EXECUTION_BEAT, len(touched), *touched, *said)

    def _finalize_failure(
        self,
        job: Job,
        queue: Queue,
        execution: Execution,
        exc_info: tuple[type[BaseException] | None, BaseException | None, TracebackType | None],
    ) -> None:
        error = exc_info[1]
        if isinstance(error, HasSuccessorError):
            with self.connection.pipeline() as pipeline:
                self.cleanup_execution(job, pipeline, execution)
                pipeline.execute()
        elif function_of(job) == keys.LABEL_FUNCTION:
            log.error("job_left_to_recovery", job_id=job.id, exc_info=error)
            self.executions.pop(execution.id, None)
        else:
            super()._finalize_failure(job, queue, execution, exc_info)

    def _round(self, burst: bool) -> bool | None:
        """Wait for a slot, and for a job to fill it.

        -> whether a job came; None while none is to be taken, since all slots are.
        """
        state = WorkerStatus.BUSY if self._running else WorkerStatus.IDLE
        if state != self.get_state():
            self.set_state(state)
        self.heartbeat()
        if self._is_drained():
            time.sleep(POLL_S)
            return None
        # A slot first: a job that is popped is run at once, so that it never waits in nobody's registry.
        if not self._slots.acquire(timeout=POLL_S):
            return None
        started = False
        try:
            # Jobs that were handed back made room: they are for others.
            if not self._stop_requested and (popped := self._pop(None if burst else POLL_S)) is not None:
                job, origin = popped
                execution = self.prepare_execution(job)
                self._running[execution.id] = (job, execution)
                self._pool.submit(self._run, job, origin, execution)
                started = True
        finally:
            if not started:
                self._slots.release()
        return started

    def _pop(self, timeout: int | None) -> tuple[Job, Queue] | None:
        try:
            return Queue.dequeue_any(
                self.queues,
                timeout,
                connection=self.connection,
                job_class=self.job_class,
                serializer=self.serializer,
                death_penalty_class=self.death_penalty_class,
            )
        except DequeueTimeout:
            return None

    def _run(self, job: Job, origin: Queue, execution: Execution) -> None:
        try:
            self.perform_job(job, origin, execution)
        except Exception as error:
            # RQ could not write down how it ended, so Redis is away: without heartbeats the job is soon taken up again.
            log.warning("job_end_not_sent", job_id=job.id, error=str(error))
        finally:
            del self._running[execution.id]
            self._slots.release()

    def _beat(self) -> None:
        while not self._over.wait(self._heartbeat_s):
            for job, execution in list(self._running.values()):
                try:
                    self.maintain_heartbeats(job, execution)
                except redis.RedisError as error:  # the next one may get through
                    log.warning("heartbeat_not_sent", job_id=job.id, error=str(error))

    def _stop_when_told(self) -> None:
        if self._signals.get() is None:
            return
        self._stop_requested = True
        told = time.monotonic()
        threading.Thread(target=self._on_stop, daemon=True).start()  # it may take long where Redis is away
        why = "jobs do not end"
        while (left := told + STOP_S - time.monotonic()) > 0:
            try:
                if self._signals.get(timeout=left) is None:
                    return
            except queue.Empty:
                break
            if time.monotonic() - told > AGAIN_S:
                why = "asked twice"
                break
        giving_up = threading.Thread(target=self._on_giving_up, daemon=True)
        giving_up.start()
        giving_up.join(GIVING_UP_S)
        log.warning("ended_at_once", why=why, jobs=[job.id for job, _ in list(self._running.values())])
        os._exit(1)  # threads that hang cannot be ended otherwise; their jobs start again without their heartbeats
