"""The RQ job that makes a job's annotated video.

It runs in a process of its own that has no CUDA, from the queue `keys.RENDER_QUEUE`.  The video lies beside the input
in the upload store and goes with it.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import redis
import structlog

from app.contract import keys
from app.contract.jobs import RENDER_TIMEOUT_S, JobRecord, UnreadableRecordError
from app.contract.media import STORED
from app.contract.settings import SharedSettings
from app.contract.uploads import VIDEO, UploadStore
from worker.core.records import DecodedFrame
from worker.decode import LimitExceededError, Sampling, UndecodableInputError
from worker.decode.isolated import IsolatedSource
from worker.decode.messages import Input
from worker.jobs.annotate import NothingToDrawError, encode
from worker.jobs.execution import written_frames
from worker.jobs.rq_worker import AGAIN
from worker.settings import decode_limits

COPY_BYTES = 2**20

log = structlog.get_logger(__name__)

stopping = threading.Event()  # set when this process is to end; a video that is being drawn is then drawn by another


class _StoppingError(Exception):
    """This process is asked to end."""


def render_job(job_id: str) -> object:
    """Make the annotated video of an ended job; says in `keys.render(job_id)` how it went.

    Returns `AGAIN` when the process stops before the video is done.
    """
    settings = SharedSettings()
    with redis.Redis.from_url(settings.redis_url) as connection:
        fields = cast(dict[bytes, bytes], connection.hgetall(keys.job(job_id)))
        if not fields:
            return None
        try:
            record = JobRecord.from_hash(fields)
        except UnreadableRecordError as error:
            log.error("job_unreadable", job_id=job_id, why=str(error))
            _say(connection, job_id, "failed", "the job is of another release than the renderer")
            return None
        _say(connection, job_id, "running")
        try:
            render(connection, UploadStore(settings.uploads), record, settings)
        except _StoppingError:
            _say(connection, job_id, "queued")
            return AGAIN
        except (UndecodableInputError, LimitExceededError, NothingToDrawError) as error:
            _say(connection, job_id, "failed", str(error))
        except FileNotFoundError:
            _say(connection, job_id, "failed", "the input is not there any more")
        except Exception:
            log.exception("render_failed", job_id=job_id, request_id=record.request_id)
            _say(connection, job_id, "failed", "an unexpected error; it has been logged")
        else:
            _say(connection, job_id, "done")
    return None


def render(connection: redis.Redis, store: UploadStore, record: JobRecord, settings: SharedSettings) -> None:
    """Draw, encode, and put the video beside the input."""
    limits = decode_limits(settings)
    folder = Path(tempfile.mkdtemp(prefix="mien-render-"))
    try:
        with store.local_path(record.id) as path:
            # Every frame of the part that was labelled, also between sampled ones.
            sampling = Sampling(None, record.options.start_s, record.options.end_s)
            reading = STORED[record.media].reading
            source = IsolatedSource(Input(str(path), reading, record.options.fps, sampling), limits)
            try:
                written = written_frames(connection, record)
                encode(folder / VIDEO, _unless_stopped(source.frames()), written, record.labels or ())
            finally:
                source.close()
        _keep(folder / VIDEO, store, connection, record.id)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unless_stopped(frames: Iterable[DecodedFrame]) -> Iterator[DecodedFrame]:
    """The frames.  Raises: LimitExceededError when drawing takes too long."""
    started = time.monotonic()
    for frame in frames:
        if stopping.is_set():
            raise _StoppingError
        if time.monotonic() - started > RENDER_TIMEOUT_S:
            raise LimitExceededError(f"drawing takes longer than {RENDER_TIMEOUT_S} s, the limit of this service")
        yield frame


def _keep(path: Path, store: UploadStore, connection: redis.Redis, job_id: str) -> None:
    writer = store.create(job_id, VIDEO)
    try:
        with path.open("rb") as file:
            while piece := file.read(COPY_BYTES):
                writer.write(piece)
        if not connection.exists(keys.job(job_id)):
            raise FileNotFoundError("the job was removed")
        writer.commit()
    except BaseException:
        writer.abort()
        raise


def _say(connection: redis.Redis, job_id: str, state: str, detail: str = "") -> None:
    """For as long as the job's record lives; a job that is gone has no rendering either."""
    left_s = int(connection.ttl(keys.job(job_id)))
    if left_s == -2:  # Redis: there is no such key
        connection.delete(keys.render(job_id))
        return
    with connection.pipeline(transaction=True) as pipe:
        pipe.hset(keys.render(job_id), mapping={"state": state, "detail": detail})
        if left_s >= 0:
            pipe.expire(keys.render(job_id), left_s)
        pipe.execute()
