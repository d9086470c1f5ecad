"""The service's side of a job: the function that RQ runs, around the pipeline that is loaded once.

A job that fails says why in its `error`, and the worker lives on.  Only what another try may mend (Redis away) is left
to RQ, which then retries.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import redis
import structlog
from rq import Retry

from app.contract import metrics
from app.contract.jobs import ErrorCode, InputInfo, JobError, JobRecord, ModelRef, State
from app.contract.uploads import UploadStore
from worker import serving
from worker.decode import DecodeLimits, LimitExceededError, UndecodableInputError
from worker.ensemble.engine import OutOfDeviceMemoryError
from worker.pipeline import Source
from worker.presence import Presence
from worker.results import CanceledError, Execution, LostError
from worker.settings import WorkerSettings

# A job that goes from worker to worker in deploys is not a failing one.
MAX_HAND_BACKS = 1000

log = structlog.get_logger(__name__)


class _StoppingError(Exception):
    """The worker is asked to stop."""


@dataclass
class Service:
    """What `label_job` works with; made once a process."""

    settings: WorkerSettings
    connection: redis.Redis
    store: UploadStore
    loaded: serving.Serving
    presence: Presence
    stopping: threading.Event


_service: Service | None = None


def install(service: Service) -> None:
    """Give `label_job`, which RQ calls by name, what this process loaded."""
    global _service  # noqa: PLW0603  # RQ finds a module's function by name; there is nothing else to hang it on
    _service = service


def label_job(job_id: str) -> Retry | None:
    """Label one job; RQ runs this.  Returns a Retry when the worker stops before the job ended."""
    if _service is None:
        raise RuntimeError("label_job runs in `python -m worker run` only")
    service = _service
    service.presence.say(state="busy")
    execution = Execution(service.connection, job_id, service.settings.result_ttl_s)
    started = time.monotonic()
    try:
        state = _label(service, execution, job_id)
    except LostError as lost:
        log.info("job_lost", job_id=job_id, why=str(lost))
        return None
    except _StoppingError:
        execution.hand_back()
        log.info("job_handed_back", job_id=job_id)
        return Retry(max=MAX_HAND_BACKS)
    finally:
        stopping = service.stopping.is_set()
        service.presence.say(state="stopping" if stopping else "ready", jobs_done=service.presence.info.jobs_done + 1)
    log.info("job_ended", job_id=job_id, state=state, seconds=round(time.monotonic() - started, 3))
    return None


def _label(service: Service, execution: Execution, job_id: str) -> State:
    manifest, pipeline = service.loaded.manifest, service.loaded.pipeline
    ended: dict[str, Any] = {}
    keep_input = False
    state: State = "succeeded"
    try:
        record = execution.claim(
            {
                "model": ModelRef(name=manifest.name, version=manifest.version).model_dump(),
                "labels": manifest.labels,
                "members": pipeline.engine.member_names,
                "detector": pipeline.detector.name,
            }
        )
        keep_input = record.options.keep_input
        structlog.contextvars.bind_contextvars(job_id=job_id, request_id=record.request_id)
        log.info("job_started", attempt=record.attempts, media=record.media)
        with service.store.local_path(job_id) as path:
            limits = DecodeLimits(service.settings.max_frames, service.settings.max_pixels)
            source = serving.open_source(path, record.media, record.options, limits)
            try:
                _label_source(service, execution, record, source)
                ended = {"warnings": source.warnings, "input": _input(record, source, decoded=True)}
            finally:
                source.close()
    except CanceledError:
        state = "canceled"
    except (LostError, _StoppingError, redis.RedisError):
        raise
    except Exception as error:
        state, ended = "failed", {"error": _error(error).model_dump()}
    finally:
        structlog.contextvars.clear_contextvars()
    if not keep_input:
        service.store.delete(job_id)
        ended["input_deleted"] = True
    execution.finish(state, ended)
    _count_batches(service)
    return state


def _count_batches(service: Service) -> None:
    """Add what the engine did since it was last asked to the counters that `/metrics` shows."""
    done = service.loaded.pipeline.engine.take_stats()
    counts = {metrics.BATCHES: done.batches, metrics.BATCH_FILLED: done.crops, metrics.BATCH_SLOTS: done.capacity}
    metrics.add(service.connection, counts)


def _label_source(service: Service, execution: Execution, record: JobRecord, source: Source) -> None:
    pipeline = service.loaded.pipeline
    options = serving.label_options(record.options)
    execution.opened(
        expected_frames(record, source),
        {"input": _input(record, source, decoded=False), "members": pipeline.members(options)},
    )
    for frame in serving.contract_frames(pipeline.label(source, options)):
        if service.stopping.is_set():
            raise _StoppingError
        execution.add(frame)


def expected_frames(record: JobRecord, source: Source) -> int | None:
    """How many frames will be labelled, from what the container claims; None if it claims nothing."""
    info, options = source.info, record.options
    if info.frame_count is None:
        return None
    if info.fps is None or info.duration_s is None:
        return info.frame_count
    end_s = min(info.duration_s, options.end_s if options.end_s is not None else info.duration_s)
    seconds = max(end_s - (options.start_s or 0.0), 0.0)
    rate = min(info.fps, options.sample_fps or info.fps)
    return min(info.frame_count, round(seconds * rate))


def _input(record: JobRecord, source: Source, *, decoded: bool) -> dict[str, Any]:
    whole = decoded and record.options.end_s is None
    known = InputInfo(
        kind=record.input.kind,
        bytes=record.input.bytes,
        sha256=record.input.sha256,
        width=source.info.width,
        height=source.info.height,
        fps=None if source.info.fps is None else round(source.info.fps, 3),
        duration_s=None if source.info.duration_s is None else round(source.info.duration_s, 3),
        frame_count=source.decoded if whole else source.info.frame_count,
    )
    return known.model_dump(mode="json")


def _error(error: Exception) -> JobError:
    """What the job's owner reads; what only the operator may read is logged."""
    code: ErrorCode
    if isinstance(error, UndecodableInputError):
        code, detail = "undecodable_input", str(error)
    elif isinstance(error, LimitExceededError):
        code, detail = "limit_exceeded", str(error)
    elif isinstance(error, OutOfDeviceMemoryError | MemoryError):
        code, detail = "out_of_memory", "the worker has not enough memory for this input; try smaller frames"
    elif isinstance(error, FileNotFoundError):
        code, detail = "internal", "the input is not in the upload store any more; submit it again"
    else:
        code, detail = "internal", "an unexpected error; it has been logged with the job's id"
    log.log(40 if code == "internal" else 20, "job_failed", code=code, exc_info=code == "internal")
    return JobError(code=code, detail=detail)
