"""Every Redis key and channel of Mien, in one place.  RQ keeps its own under `rq:`."""

from __future__ import annotations

import re

PREFIX = "mien:"
JOB_ID = re.compile(r"[0-9a-f]{32}")

WORKERS = f"{PREFIX}workers"  # sorted set: worker name by the time it was last seen, seconds since the epoch
MODELS = f"{PREFIX}models"  # hash: bundle name -> ModelInfo as JSON, of every bundle that ever was served here
JOBS = f"{PREFIX}jobs:"  # + owner: sorted set of job ids by creation, milliseconds since the epoch
FRAMES = f"{PREFIX}frames:"  # + job id + ":" + execution: list of chunks

# What the worker runs; a worker refuses every other function.
LABEL_FUNCTION = "worker.service.label_job"


def job(job_id: str) -> str:
    """Hash of a job, see `jobs.JobRecord`."""
    return f"{PREFIX}job:{job_id}"


def frames(job_id: str, execution: str) -> str:
    """List of result chunks of one execution of a job."""
    return f"{FRAMES}{job_id}:{execution}"


def changed(job_id: str) -> str:
    """Channel that says a job changed; the message is its revision."""
    return f"{PREFIX}changed:{job_id}"


def jobs(owner: str) -> str:
    """Sorted set of an owner's jobs."""
    return f"{JOBS}{owner}"


def worker(name: str) -> str:
    """What a live worker says of itself, see `workers.WorkerInfo`; expires when it stops saying so."""
    return f"{PREFIX}worker:{name}"
