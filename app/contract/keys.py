"""Every Redis key and channel of Mien.  RQ's keys start with `rq:`."""

from __future__ import annotations

import re

PREFIX = "mien:"
JOB_ID = re.compile(r"[0-9a-f]{32}")

WORKERS = f"{PREFIX}workers"  # sorted set: worker name by the time of its last heartbeat, by Redis' clock
MODELS = f"{PREFIX}models"  # hash: bundle name -> ModelInfo as JSON, of every bundle ever served
JOBS = f"{PREFIX}jobs:"  # + owner: sorted set of job ids by creation, milliseconds since the epoch
BATCHES = f"{PREFIX}batch:"  # + owner + ":" + batch: the same for the jobs of a batch
FRAMES = f"{PREFIX}frames:"  # + job id + ":" + execution: list of chunks
WHOLE = ":whole"  # suffix of the key of the `Whole` beside these frames

WEBHOOKS = f"{PREFIX}webhooks"  # sorted set: job id by the due time of its webhook, seconds since the epoch
FETCHES = f"{PREFIX}fetches"  # sorted set: job id by the time its input is to be fetched next, seconds
METRICS = f"{PREFIX}metrics"  # hash: counters of the whole service, see `metrics`
QUOTA = f"{PREFIX}quota:"  # + owner + ":" + day
QUOTA_TTL_S = 2 * 86_400
OPEN = f"{PREFIX}open"  # hash: id of every job that has not ended -> its queue
SWEEP_LOCK = f"{PREFIX}sweep"  # lock of the sweep of expired data

# The function of a job in RQ; a worker rejects all others.  Names, not import paths.
LABEL_FUNCTION = "mien.label"

# Renditions of kept inputs, see `renditions`: a separate queue, for a process without CUDA.
RENDER_QUEUE = "mien-render"

# Functions of jobs that earlier releases queued -> their present names.
FORMER_RENDER_FUNCTION = "worker.render.render_job"
FORMER_FUNCTIONS = {"worker.service.label_job": LABEL_FUNCTION, FORMER_RENDER_FUNCTION: "mien.render"}

RQ_QUEUES = "rq:queues"  # set: the key of every queue


def rq_queue(queue: str) -> str:
    """RQ's list of queued jobs.  Only the RQ keys that Mien's scripts change are named here."""
    return f"rq:queue:{queue}"


def rq_taken(queue: str) -> str:
    """RQ's list of jobs that a worker has popped but not started."""
    return f"rq:queue:{queue}:intermediate"


def rq_running(queue: str) -> str:
    """RQ's sorted set of executions, `job id:execution`, by the end of their leases."""
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


def whole(job_id: str, execution: str) -> str:
    """The `whole.Whole` of one execution; it expires with its frames."""
    return frames(job_id, execution) + WHOLE


def changed(job_id: str) -> str:
    """Channel of a job's changes; the message is the new revision."""
    return f"{PREFIX}changed:{job_id}"


def jobs(owner: str) -> str:
    """Sorted set of an owner's jobs."""
    return f"{JOBS}{owner}"


def batch(owner: str, name: str) -> str:
    """Sorted set of the jobs of an owner's batch, by creation."""
    return f"{BATCHES}{owner}:{name}"


def worker(name: str) -> str:
    """A live worker's record, see `workers.WorkerInfo`; expires without heartbeats."""
    return f"{PREFIX}worker:{name}"


def quota(owner: str, day: int) -> str:
    """Hash of an owner's usage on a day: `bytes`, `frames`.  day: since the epoch, UTC."""
    return f"{QUOTA}{owner}:{day}"


def drained(name: str) -> str:
    """Flag: the worker must not take jobs."""
    return f"{PREFIX}drained:{name}"


def upload(job_id: str) -> str:
    """Heartbeat of an upload in progress, which protects it from the sweep; expires unless refreshed."""
    return f"{PREFIX}upload:{job_id}"


def resumable(upload_id: str) -> str:
    """Hash of a resumable upload: `owner`, `length`, `offset`, `name`, `expires_at`, `writer`, and its pieces."""
    return f"{PREFIX}resumable:{upload_id}"


def open_resumable(owner: str) -> str:
    """Sorted set of an owner's resumable uploads without a job, by expiry."""
    return f"{PREFIX}resumable-open:{owner}"


def idempotency(owner: str, digest: str) -> str:
    """Hash of a submission with an Idempotency-Key: `fingerprint` and `job`.  digest: SHA-256 of the key."""
    return f"{PREFIX}idempotency:{owner}:{digest}"


def rate(owner: str) -> str:
    """State of the rate limit of an owner or an address."""
    return f"{PREFIX}rate:{owner}"


def webhook(job_id: str) -> str:
    """Hash of a pending webhook: `url`, `state`, `finished_at`, `attempts`, `request_id`, `name`, `metadata`."""
    return f"{PREFIX}webhook:{job_id}"
