"""RQ's bookkeeping of jobs, as far as Mien's own would be undone by it.

A job's record says which execution has it (`app.contract.scripts.transitions`); `app.background.recovery` has jobs
started again whose worker died.  So a worker neither retries jobs nor looks after those of others, and touches nothing
of a job that it lost to another.
"""

from __future__ import annotations

from types import TracebackType

import structlog
from rq import Queue, SimpleWorker
from rq.executions import Execution
from rq.job import Job

from app.contract import heartbeats, keys
from app.contract.scripts.workers import EXECUTION_BEAT

log = structlog.get_logger(__name__)


class HasSuccessorError(Exception):
    """The job that runs here is another execution's now: nothing of it is ours any more."""


def function_of(job: Job) -> str:
    """What a job asks for, by its present name.  "" where that is no name at all."""
    name = job.func_name or ""
    return keys.FORMER_FUNCTIONS.get(name, name)


class Bookkeeping(SimpleWorker):
    """Leaves everything to Mien's records that they cover."""

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
