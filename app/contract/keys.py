"""Every Redis key and channel of Mien, in one place.  RQ keeps its own under `rq:`."""

from __future__ import annotations

import re

PREFIX = "mien:"
JOB_ID = re.compile(r"[0-9a-f]{32}")

WORKERS = f"{PREFIX}workers"  # sorted set: worker name by the time it was last seen, by the clock of Redis
MODELS = f"{PREFIX}models"  # hash: bundle name -> ModelInfo as JSON, of every bundle that ever was served here
JOBS = f"{PREFIX}jobs:"  # + owner: sorted set of job ids by creation, milliseconds since the epoch
BATCHES = f"{PREFIX}batch:"  # + owner + ":" + name: likewise, of those that carry the name
FRAMES = f"{PREFIX}frames:"  # + job id + ":" + execution: list of chunks

WEBHOOKS = f"{PREFIX}webhooks"  # sorted set: job id by the time its webhook is to be sent next, seconds
METRICS = f"{PREFIX}metrics"  # hash: counters that all workers add to, see `metrics`
OPEN = f"{PREFIX}open"  # hash: id of every job that has not ended -> its queue
SWEEP_LOCK = f"{PREFIX}sweep"  # held by the one process that removes what expired

# What a job in RQ asks for; a worker refuses every other function.  Names, not places in the code.
LABEL_FUNCTION = "mien.label"

# What is made of kept inputs, see `renditions`: a queue of its own, for a process without CUDA.
RENDER_QUEUE = "mien-render"

# What jobs ask for that were queued by earlier releases -> what that is called now.
FORMER_RENDER_FUNCTION = "worker.render.render_job"
FORMER_FUNCTIONS = {"worker.service.label_job": LABEL_FUNCTION, FORMER_RENDER_FUNCTION: "mien.render"}

RQ_QUEUES = "rq:queues"  # set: the key of every queue


def rq_queue(queue: str) -> str:
    """RQ's list of the jobs that wait.  RQ's keys are named here where Mien's scripts change them, too."""
    return f"rq:queue:{queue}"


def rq_taken(queue: str) -> str:
    """RQ's list of jobs that a worker has popped and not begun yet."""
    return f"rq:queue:{queue}:intermediate"


def rq_running(queue: str) -> str:
    """RQ's sorted set of executions, `job id:execution`, by the time up to which their worker is known to live."""
    return f"rq:wip:{queue}"


def rq_job(job_id: str) -> str:
    """RQ's hash of a job."""
    return f"rq:job:{job_id}"


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


def batch(owner: str, name: str) -> str:
    """Sorted set of the jobs of an owner's batch, by creation."""
    return f"{BATCHES}{owner}:{name}"


def worker(name: str) -> str:
    """What a live worker says of itself, see `workers.WorkerInfo`; expires when it stops saying so."""
    return f"{PREFIX}worker:{name}"


def drained(name: str) -> str:
    """Says that a worker is to take no more jobs."""
    return f"{PREFIX}drained:{name}"


def upload(job_id: str) -> str:
    """Says that an upload is on its way, so that it is not swept; expires unless refreshed."""
    return f"{PREFIX}upload:{job_id}"


def resumable(upload_id: str) -> str:
    """Hash of a resumable upload: `owner`, `length`, `offset`, `name`, `expires_at`, `writer`, and its pieces."""
    return f"{PREFIX}resumable:{upload_id}"


def open_resumable(owner: str) -> str:
    """Sorted set of an owner's resumable uploads of which no job was made, by when they expire."""
    return f"{PREFIX}resumable-open:{owner}"


def idempotency(owner: str, digest: str) -> str:
    """Hash of a submission that had an Idempotency-Key: `fingerprint` and `job`.  digest: SHA-256 of the key."""
    return f"{PREFIX}idempotency:{owner}:{digest}"


def rate(owner: str) -> str:
    """When an owner's, or an address's, next request is due."""
    return f"{PREFIX}rate:{owner}"


def webhook(job_id: str) -> str:
    """Hash of a webhook that is to be sent: `url`, `state`, `finished_at`, `attempts`, `request_id`."""
    return f"{PREFIX}webhook:{job_id}"
