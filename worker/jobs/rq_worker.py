"""RQ workers that keep the model loaded: jobs run on threads of this process, never in a fork.

RQ's `SimpleWorker` also runs jobs in its process, but one at a time, without heartbeats during a job (so a dead worker
is noticed only after the job's timeout), and it runs any function that a job names.  This worker fixes all three.  RQ
keeps the queue and job records; the main loop, the threads and the shutdown are implemented here.

The job record stores the owning execution (`app.contract.scripts.transitions`), and `app.background.recovery` restarts
the jobs of dead workers.  So a worker neither retries jobs nor recovers those of others, and changes nothing of a job
that it lost.  Only this module of the worker uses RQ's worker API.
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
from typing import Any, ClassVar, cast

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
from app.contract.priorities import TURNS
from app.contract.scripts.workers import EXECUTION_BEAT
from app.contract.settings import SharedSettings

POLL_S = 1  # timeout of the wait for a slot, and of the wait for a job
ANSWER_S = 5  # socket timeout of Redis, longer than `POLL_S`
PAUSE_S = 2  # backoff after a Redis error
STOP_S = 8  # jobs still running so long after SIGTERM are handed back ...
GIVING_UP_S = 1  # ... within this time
AGAIN_S = 1  # a second signal within this time is a duplicate (Ctrl-C reaches parent and child)

# Returned by a job that another process is to restart, without a practical limit on the number of deploys.
AGAIN = Retry(max=1000)

Functions = Mapping[str, Callable[[str], object]]  # by their names in the contract

log = structlog.get_logger(__name__)


class HasSuccessorError(Exception):
    """Another execution owns or will own the job: this worker must change nothing of it."""


class NotAllowedError(Exception):
    """A job names a function that is not on the allow-list."""


def function_of(job: Job) -> str:
    """The present name of a job's function, "" if it has none."""
    name = job.func_name or ""
    return keys.FORMER_FUNCTIONS.get(name, name)


class AllowedJob(Job):
    """A job that can only run one of `functions`: it imports nothing by name."""

    functions: ClassVar[Functions] = {}

    @property
    def func(self) -> Any:
        """The function, or NotAllowedError."""
        function = self.functions.get(function_of(self))
        if function is None or self.instance:
            raise NotAllowedError("this worker does not run that function")
        return function

    # RQ jobs may name callbacks and webhooks for their end; Mien's jobs have none, so they are disabled.
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
    """A job class with an allow-list of functions, so that write access to Redis cannot run others."""

    class Allowed(AllowedJob):
        """See `allowing`."""

    Allowed.functions = functions
    return Allowed


class _NoDeathPenalty(BaseDeathPenalty):
    """Disables RQ's timeout: SIGALRM only reaches the main thread.  Jobs check their own timeout."""

    def setup_death_penalty(self) -> None:
        pass

    def cancel_death_penalty(self) -> None:
        pass


class ResidentWorker(SimpleWorker):
    """Runs up to `concurrency` jobs at once in this process, with heartbeats.

    functions: allow-list by name.
    on_stop: called once, from a thread, at the first SIGTERM; running jobs must then end soon.
    on_giving_up: called, from a thread, just before the process exits if they do not.
    is_drained: whether the worker is drained and must take no jobs.
    urgent_queue: one that is taken from `priorities.TURNS` times as often, where both have jobs; "" for none.
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
        urgent_queue: str = "",
    ) -> None:
        job_class = allowing(functions)
        names = [urgent_queue, queue_name] if urgent_queue else [queue_name]
        queues = [Queue(name, connection=connection, serializer=JSONSerializer, job_class=job_class) for name in names]
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
        self._taken = 0
        self._slots = threading.Semaphore(concurrency)
        self._pool = ThreadPoolExecutor(concurrency, "job")
        self._running: dict[str, tuple[Job, Execution]] = {}  # by execution
        self._over = threading.Event()
        # SimpleQueue.put is reentrant, so a signal handler may call it.
        self._signals: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def serve(self, *, burst: bool = False) -> None:
        """Run jobs until SIGTERM, or with `burst` until the queue is empty; then wait for the running ones.

        There is no RQ scheduler, so nothing forks.
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
                except Exception:  # for instance an unreadable job, which must not block others
                    log.exception("round_failed")
                    time.sleep(PAUSE_S)
                else:
                    if burst and taken is False:
                        break
            self._pool.shutdown()  # before `teardown`, which removes the executions
            self.teardown()  # type: ignore[no-untyped-call]
        except redis.RedisError as error:  # the worker's keys expire
            log.warning("goodbye_not_sent", error=str(error))
        finally:
            self._over.set()
            self._signals.put(None)
            for thread in threads:
                thread.join()

    @property
    def connection_timeout(self) -> int:
        """The socket timeout that RQ needs: its own loop waits longer for a job than this one's `POLL_S`.

        A connection that a broken network has silenced must be given up before the leases of the jobs run out.
        """
        return ANSWER_S

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        return self._heartbeat_ttl_s

    def request_stop(self, signum: int, frame: FrameType | None = None) -> None:
        """SIGTERM or SIGINT.  The first stops new jobs and ends running ones; the second ends the process at once."""
        self._signals.put(signum)

    def stop(self) -> None:
        """Stop as at SIGTERM.  Thread-safe."""
        self._signals.put(signal.SIGTERM)

    def subscribe(self) -> None:
        """Ignore RQ's remote commands, which kill child processes; there are none.  A cancellation is set in the job's
        record, which the job checks."""

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Send an execution's heartbeat; no effect if it was given up."""
        ttl = self.get_heartbeat_ttl(job)
        touched = [keys.rq_running(job.origin), execution.key, self.key]
        said = [execution.composite_key, str(ttl), str(heartbeats.RQ_BUSY_WORKER_TTL_S)]
        self.connection.eval(EXECUTION_BEAT, len(touched), *touched, *said)

    def prepare_execution(self, job: Job) -> Execution:
        """As RQ does, with a lease by Redis' clock from the start: RQ takes this host's, which may be wrong."""
        execution = super().prepare_execution(job)
        self.maintain_heartbeats(job, execution)
        return execution

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        """As RQ does for a worker of one queue: it removes the job from the list of popped ones.

        This worker has two queues, but pops from one at a time.
        """
        super().prepare_job_execution(job, remove_from_intermediate_queue=True)

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
        """Wait for a free slot, then for a job.

        Returns whether a job started; None while the worker is drained or all slots are busy.
        """
        state = WorkerStatus.BUSY if self._running else WorkerStatus.IDLE
        if state != self.get_state():
            self.set_state(state)
        self.heartbeat()
        if self._is_drained():
            time.sleep(POLL_S)
            return None
        # The slot first, so that a popped job starts at once and is always in a registry.
        if not self._slots.acquire(timeout=POLL_S):
            return None
        started = False
        try:
            # After a stop, slots of handed-back jobs are free; those jobs are for other workers.
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

    def _pop(self, timeout: float | None) -> tuple[Job, Queue] | None:
        """A job of one queue or the other, always from one at a time: so RQ pops safely.

        timeout: for how long to wait where neither has any, None for not at all.
        """
        turn = self._taken % (TURNS + 1)
        first = self.queues if turn < TURNS else self.queues[::-1]
        found = next((popped for queue in first if (popped := self._pop_from(queue, None))), None)
        if found is None and timeout is not None:
            # For the bundle's own queue alone: next to workers that know no other one (0.1.0) it would rarely get a job
            # that they refuse, if it waited there for half of the time.
            found = self._pop_from(self.queues[-1], timeout / len(self.queues))
        self._taken += found is not None
        return found

    def _pop_from(self, queue: Queue, timeout: float | None) -> tuple[Job, Queue] | None:
        try:
            return Queue.dequeue_any(
                [queue],
                cast(int | None, timeout),  # Redis takes fractions
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
            # RQ could not record the end, since Redis is unreachable: heartbeats end, and recovery restarts the job.
            log.warning("job_end_not_sent", job_id=job.id, error=str(error))
        finally:
            del self._running[execution.id]
            self._slots.release()

    def _beat(self) -> None:
        while not self._over.wait(self._heartbeat_s):
            for job, execution in list(self._running.values()):
                try:
                    self.maintain_heartbeats(job, execution)
                except redis.RedisError as error:  # the next one may succeed
                    log.warning("heartbeat_not_sent", job_id=job.id, error=str(error))

    def _stop_when_told(self) -> None:
        if self._signals.get() is None:
            return
        self._stop_requested = True
        told = time.monotonic()
        threading.Thread(target=self._on_stop, daemon=True).start()  # slow if Redis is unreachable
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
        os._exit(1)  # hanging threads cannot be ended otherwise; recovery restarts their jobs
