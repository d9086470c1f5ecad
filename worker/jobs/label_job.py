"""The job function that RQ runs, around the pipeline that is loaded once.

A failed job records the reason in its `error`, and the worker continues.  An exception that leaves `label_job` ends the
execution's heartbeats; after its lease, recovery restarts the job.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import redis
import structlog

from app.contract.jobs import (
    JOB_TIMEOUT_S,
    MAX_ATTEMPTS,
    ErrorCode,
    InputInfo,
    JobError,
    JobRecord,
    ModelRef,
    State,
    UnreadableRecordError,
)
from app.contract.media import STORED
from app.contract.uploads import UploadStore
from worker.core.devices import DeviceLostError, OutOfDeviceMemoryError, first_line, is_lost
from worker.decode import DecoderLostError, LimitExceededError, UndecodableInputError
from worker.ensemble.engine import EngineStoppedError
from worker.ensemble.fusion import NoPriorError
from worker.inference import serving
from worker.inference.left_out import LeftOutTally
from worker.inference.pipeline import Source, UnknownMemberError
from worker.inference.stage_timing import StageClocks
from worker.inference.whole import NoNeutralError, WholeTally
from worker.jobs.execution import CanceledError, Execution, LostError, ResultsFullError
from worker.jobs.idle_unload import IdleUnloader
from worker.jobs.job_metrics import counted
from worker.jobs.registration import Registration
from worker.jobs.rq_worker import HasSuccessorError
from worker.jobs.watchdog import Watchdog
from worker.settings import WorkerSettings, decode_limits

STORE_PAUSE_S = 5.0  # backoff after a failed read of the input, times the number of attempts
LEAVE_S = 5.0  # minimum interval between claims of a job that only another release can label

log = structlog.get_logger(__name__)


class _StoppingError(Exception):
    """The worker is stopping."""


class _AgainError(Exception):
    """This execution cannot continue; a retry after a pause may succeed."""

    def __init__(self, why: Exception, pause_s: float) -> None:
        super().__init__(str(why))
        self.pause_s = pause_s


@dataclass
class _Progress:
    """A job's progress for the watchdog: bytes of its input fetched, frames decoded, frames labelled."""

    execution: Execution
    fetched: int = 0
    source: Source | None = None

    def fetch(self, count: int) -> None:
        """Record the number of bytes fetched."""
        self.fetched = count

    def __call__(self) -> tuple[int, int, int]:
        return self.fetched, 0 if self.source is None else self.source.decoded, self.execution.added


@dataclass
class Service:
    """The shared state of `label_job` in a process, used by several threads.

    stopping: set when the process is to end.  stop: ends it.  fault: the error after which the process must end.
    left: when each job was last left to workers of another release, monotonic seconds.
    """

    settings: WorkerSettings
    connection: redis.Redis
    store: UploadStore
    unloader: IdleUnloader
    registration: Registration
    watchdog: Watchdog
    stopping: threading.Event
    stop: Callable[[], None]
    left: dict[str, float] = field(default_factory=dict)
    fault: Exception | None = None
    running: set[Execution] = field(default_factory=set)

    def fail(self, fault: Exception) -> None:
        """Stop the process after a fatal error: it takes no more jobs and hands back the running ones."""
        if self.fault is None:
            self.fault = fault
            self.stop()


def give_up(service: Service) -> None:
    """Hand back every running job without its thread, which then gets LostError."""
    for execution in list(service.running):
        with suppress(LostError):
            execution.hand_back()


@contextmanager
def _named_in_logs(job_id: str) -> Iterator[None]:
    """Add the job's id, and its request's id once known, to log lines of all the job's threads."""
    with structlog.contextvars.bound_contextvars(job_id=job_id, request_id=""):
        yield


def label_job(service: Service, job_id: str) -> None:
    """Label one job; RQ runs this.  Raises: HasSuccessorError if another execution owns or will own the job."""
    with _named_in_logs(job_id):
        _run(service, job_id)


def _run(service: Service, job_id: str) -> None:
    service.registration.job_started()
    execution = Execution(service.connection, job_id, service.settings.result_ttl_s)
    service.running.add(execution)
    started = time.monotonic()
    state: State | None = None
    progress = _Progress(execution)
    try:
        with service.watchdog.watching(job_id, progress), _loaded(service) as loaded:
            state = _label(service, loaded, progress, job_id)
    except LostError as lost:
        log.info("job_lost", why=str(lost))
        if lost.has_successor:
            raise HasSuccessorError from None
        return
    except (_StoppingError, EngineStoppedError):
        with suppress(LostError):  # another execution owns it, or it was deleted
            execution.hand_back()
        log.info("job_handed_back")
        raise HasSuccessorError from None
    except UnreadableRecordError as error:
        _leave(service, execution, job_id, str(error))
        raise HasSuccessorError from None
    except _AgainError as error:
        service.stopping.wait(error.pause_s)
        with suppress(LostError):
            execution.hand_back(charged=True)
        log.warning("job_tried_again", why=str(error))
        raise HasSuccessorError from None
    finally:
        service.running.discard(execution)
        service.registration.job_left(ended=state is not None)
    log.info("job_ended", state=state, seconds=round(time.monotonic() - started, 3))


def _leave(service: Service, execution: Execution, job_id: str, why: str) -> None:
    """Queue a job that this release cannot read behind the others, for a worker of another release."""
    with suppress(LostError):
        execution.hand_back(last=True)
    left = service.left.get(job_id)
    if left is None:
        log.warning("job_left_to_others", why=why)
    else:  # wait, so that other workers can claim it and this one does not spin
        service.stopping.wait(left + LEAVE_S - time.monotonic())
    service.left[job_id] = time.monotonic()


@contextmanager
def _loaded(service: Service) -> Iterator[serving.Serving]:
    """The loaded model.  Raises: _StoppingError if the process stops, or must stop since loading failed."""
    if service.stopping.is_set() or service.fault is not None:
        raise _StoppingError
    with ExitStack() as stack:
        try:
            loaded = stack.enter_context(service.unloader.using())
        except Exception as error:
            service.fail(error)
            raise _StoppingError from error
        yield loaded


def _label(service: Service, loaded: serving.Serving, progress: _Progress, job_id: str) -> State:
    manifest, pipeline, execution = loaded.manifest, loaded.pipeline, progress.execution
    ended: dict[str, Any] = {}
    keep_input = False
    whole = b""
    state: State = "succeeded"
    try:
        record = execution.claim(
            {
                "model": ModelRef(name=manifest.name, version=manifest.version).model_dump(),
                "labels": manifest.labels,
                "members": pipeline.engine.member_names,
                "detector": pipeline.detector_name,
                "worker": service.registration.info.name,
            }
        )
        keep_input = record.options.keep_input
        structlog.contextvars.bind_contextvars(request_id=record.request_id)
        log.info("job_started", attempt=record.attempts, media=record.media)
        halvings = pipeline.engine.halvings
        go_on = _go_on(service, execution)
        reading = STORED[record.media].reading
        with service.store.local_path(job_id, fetched=progress.fetch) as path:
            source = loaded.open_source(path, reading, record.options, decode_limits(service.settings), go_on)
            progress.source = source
            try:
                left_out, tally = _label_source(service, loaded, execution, record, source, go_on)
                ended = {
                    "warnings": [*source.warnings, *left_out.warnings()],
                    "left_out": left_out.faces().model_dump(),
                    "input": _input(record, source, decoded=True),
                }
                whole = tally.whole().encode() if record.options.late_fields else b""
            finally:
                source.close()
        if pipeline.engine.halvings > halvings:
            ended["warnings"] = [*ended["warnings"], "the device ran short of memory, so batches were made smaller"]
    except CanceledError:
        state = "canceled"
    except (LostError, UnreadableRecordError, _StoppingError, EngineStoppedError, redis.RedisError):
        raise
    except Exception as error:
        again, pause_s = isinstance(error, DecoderLostError), 0.0
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            # The upload store or this host failed, not the input; retry later.
            again, pause_s = True, STORE_PAUSE_S * record.attempts
        if is_lost(error, loaded.device):
            # Every further job would fail at once.  This job may be the cause, so the attempt counts.
            again = True
            service.fail(DeviceLostError(f"{loaded.device} computes nothing any more: {first_line(error)}"))
        if again and record.attempts < MAX_ATTEMPTS:
            raise _AgainError(error, pause_s) from error
        state, ended = "failed", {"error": _error(error).model_dump()}
    # Sealed first: only the owning execution may remove the input, and the input goes before the end is visible.
    ended["input_deleted"] = not keep_input
    try:
        execution.seal(state, ended, whole)
    except ResultsFullError as error:
        execution.seal("failed", ended | {"error": _error(error).model_dump()})
    if not keep_input:
        service.store.delete(job_id)
    return execution.finish()


def _go_on(service: Service, execution: Execution) -> Callable[[], None]:
    """A check to call regularly, from any thread, during labelling: raises if the job has to end."""
    started = time.monotonic()

    def go_on() -> None:
        if service.stopping.is_set():
            raise _StoppingError
        if time.monotonic() - started > JOB_TIMEOUT_S:
            raise LimitExceededError(f"labelling takes longer than {JOB_TIMEOUT_S} s, the limit of this service")
        execution.check()

    return go_on


def _label_source(
    service: Service,
    loaded: serving.Serving,
    execution: Execution,
    record: JobRecord,
    source: Source,
    go_on: Callable[[], None],
) -> tuple[LeftOutTally, WholeTally]:
    pipeline, options = loaded.pipeline, serving.label_options(record.options)
    left_out = LeftOutTally(options)
    people = pipeline.gathering() if record.options.people else None
    tally = WholeTally(record.options, loaded.manifest.labels, people)
    execution.opened(
        expected_frames(record, source),
        {
            "input": _input(record, source, decoded=False),
            "members": pipeline.members(options),
            "prior": pipeline.prior(options),
        },
        _span_s(record, source),
    )
    clocks = StageClocks()
    # Closed here in every case: its threads must end before the source is closed.
    with closing(pipeline.label(source, options, clocks, people)) as labelled:
        frames = tally.seen(serving.contract_frames(left_out.counted(labelled), source.info))
        for frame in counted(service.connection, pipeline.engine, clocks, frames):
            go_on()
            execution.add(frame)
            service.registration.frame_done()
    return left_out, tally


def _span_s(record: JobRecord, source: Source) -> tuple[float, float] | None:
    """Start and end of the labelled part in seconds, None if the container has no duration."""
    duration_s, options = source.info.duration_s, record.options
    if duration_s is None:
        return None
    return options.start_s or 0.0, duration_s if options.end_s is None else min(duration_s, options.end_s)


def expected_frames(record: JobRecord, source: Source) -> int | None:
    """The expected number of labelled frames from the container's metadata; None if unknown."""
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
    """The error for the job's owner; details for the operator are logged."""
    code: ErrorCode
    if isinstance(error, UndecodableInputError):
        code, detail = "undecodable_input", str(error)
    elif isinstance(error, LimitExceededError):
        code, detail = "limit_exceeded", str(error)
    elif isinstance(error, OutOfDeviceMemoryError | MemoryError):
        code, detail = "out_of_memory", "the worker has not enough memory for this input; try smaller frames"
    elif isinstance(error, UnknownMemberError | NoPriorError | NoNeutralError):
        code, detail = "invalid_option", str(error)
    elif isinstance(error, ResultsFullError):
        code, detail = "storage_full", "there was no room for the job's results; submit it again later"
    elif isinstance(error, FileNotFoundError):
        code, detail = "internal", "the input is not in the upload store any more; submit it again"
    elif isinstance(error, OSError):
        code, detail = "internal", "the input could not be read; it has been logged with the job's id"
    else:
        code, detail = "internal", "an unexpected error; it has been logged with the job's id"
    log.log(40 if code == "internal" else 20, "job_failed", code=code, exc_info=code == "internal")
    return JobError(code=code, detail=detail)
