"""The RQ jobs that render a job's kept input: videos with boxes or with faces hidden, preview, thumbnail.

They run from the queue `keys.RENDER_QUEUE` in a separate process without CUDA.  Renditions are stored beside the input
in the upload store and deleted with it.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import redis
import structlog

from app.contract import keys
from app.contract.frames import Frame
from app.contract.jobs import RENDER_TIMEOUT_S, JobRecord, UnreadableRecordError
from app.contract.media import STORED
from app.contract.renditions import PREVIEW, RENDITIONS, THUMBNAIL, VIDEO, VIDEOS, Rendition
from app.contract.settings import SharedSettings
from app.contract.uploads import UploadStore
from worker.core.records import DecodedFrame, Image
from worker.decode import DecoderError, DecoderLostError, LimitExceededError, Sampling, UndecodableInputError
from worker.decode.isolated import IsolatedSource, add_sound
from worker.decode.messages import Input, Sound
from worker.inference.prefetch import prefetched
from worker.jobs.annotate import NothingToDrawError, drawn, encode, shrunk
from worker.jobs.execution import written_frames
from worker.jobs.rq_worker import AGAIN, Functions
from worker.jobs.thumbnail import best_face, picture_at, thumbnail
from worker.settings import decode_limits

COPY_BYTES = 2**20
NEAR_S = 0.05  # decoded time before and after a thumbnail's frame
TELL_S = 0.5  # interval of progress updates
FACES_AHEAD = 64  # frames in which faces are found ahead of drawing
SOUND_BYTES = 2**30  # maximum growth by sound that is encoded anew

log = structlog.get_logger(__name__)

stopping = threading.Event()  # set when this process is to end; another process then restarts the rendition


class _StoppingError(Exception):
    """This process is stopping."""


def functions() -> Functions:
    """The renderer's functions by their names in the contract."""
    return {kind.function: partial(render_job, kind) for kind in RENDITIONS}


def render_job(kind: Rendition, job_id: str) -> object:
    """Make one rendition of an ended job; its key in Redis holds progress and outcome.

    Returns `AGAIN` if the process stops before the rendition is done.
    """
    settings = SharedSettings()
    with redis.Redis.from_url(settings.redis_url) as connection:
        say = partial(_say, connection, kind, job_id)
        fields = cast(dict[bytes, bytes], connection.hgetall(keys.job(job_id)))
        if not fields:
            return None
        try:
            record = JobRecord.from_hash(fields)
        except UnreadableRecordError as error:
            log.error("job_unreadable", job_id=job_id, why=str(error))
            say("failed", "the job is of another release than the renderer")
            return None
        say("running")
        try:
            render(kind, connection, UploadStore(settings.uploads), record, settings)
        except _StoppingError:
            say("queued")
            return AGAIN
        except (UndecodableInputError, LimitExceededError, NothingToDrawError) as error:
            say("failed", str(error))
        except FileNotFoundError:
            say("failed", "the input was deleted")
        except Exception:
            log.exception("render_failed", job_id=job_id, kind=kind.name, request_id=record.request_id)
            say("failed", "an unexpected error; it has been logged")
        else:
            say("done")
    return None


def render(
    kind: Rendition, connection: redis.Redis, store: UploadStore, record: JobRecord, settings: SharedSettings
) -> None:
    """Make a rendition and store it beside the input."""
    folder = Path(tempfile.mkdtemp(prefix="mien-render-"))
    made = folder / kind.name
    try:
        with store.local_path(record.id) as path:
            if kind is THUMBNAIL:
                made.write_bytes(_thumbnail(path, record, written_frames(connection, record), settings))
            else:
                # Every frame of the labelled part, also those between samples.
                part = Sampling(None, record.options.start_s, record.options.end_s)
                with ExitStack() as opened:

                    def decoded() -> Iterator[DecodedFrame]:
                        return _unless_stopped(opened.enter_context(_frames(path, record, part, settings)))

                    frames = _counted(connection, kind, record, decoded())
                    if kind is PREVIEW:
                        pictures = shrunk(frames)
                    elif kind is VIDEO:
                        pictures = drawn(frames, written_frames(connection, record), record.labels or ())
                    else:
                        pictures = _hidden(kind, record, frames, decoded, opened)
                    encode(made, pictures)
                if kind is not PREVIEW and STORED[record.media].reading == "video":
                    made = _with_sound(made, path, record, settings)
        _keep(made, kind, store, connection, record.id)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _hidden(
    kind: Rendition,
    record: JobRecord,
    frames: Iterator[DecodedFrame],
    decoded: Callable[[], Iterator[DecodedFrame]],
    opened: ExitStack,
) -> Iterator[tuple[float, Image]]:
    """Pictures with their faces hidden.  decoded: the frames once more, to find faces ahead of what is drawn."""
    from worker.inference.hiding import AllFaces  # noqa: PLC0415  # loads torch, which other renditions do without
    from worker.jobs.hide import hidden  # noqa: PLC0415

    how = next(style for style, video in VIDEOS.items() if video is kind and style != "boxes")
    if record.options.faces == "cropped":
        return hidden(frames, None, how)
    found = AllFaces().run(decoded())
    faces = opened.enter_context(prefetched(found, FACES_AHEAD, lambda _: 1, "faces"))
    return hidden(frames, faces, how)


def _with_sound(pictures: Path, path: Path, record: JobRecord, settings: SharedSettings) -> Path:
    """The pictures with the sound of the input; without it where that cannot be read."""
    whole = pictures.with_suffix(".sound")
    most = pictures.stat().st_size + path.stat().st_size + SOUND_BYTES
    options = record.options
    given = Sound(str(path), str(pictures), str(whole), most, options.start_s, options.end_s)
    try:
        return whole if add_sound(given, decode_limits(settings), _stop_here) else pictures
    except (UndecodableInputError, LimitExceededError, DecoderError, DecoderLostError, MemoryError) as error:
        log.warning("sound_left_out", job_id=record.id, request_id=record.request_id, why=str(error))
        return pictures


def _stop_here() -> None:
    if stopping.is_set():
        raise _StoppingError


def _thumbnail(path: Path, record: JobRecord, labelled: Iterable[Frame], settings: SharedSettings) -> bytes:
    best = best_face(labelled)
    if best is None:
        raise NothingToDrawError("the job has no face")
    frame, face = best
    around = Sampling(None, max(frame.timestamp_s - NEAR_S, 0.0), frame.timestamp_s + NEAR_S)
    with _frames(path, record, around, settings) as frames:
        image = picture_at(_unless_stopped(frames), frame.timestamp_s)
    if image is None:
        raise NothingToDrawError("the frame cannot be decoded again")
    return thumbnail(image, face)


@contextmanager
def _frames(
    path: Path, record: JobRecord, sampling: Sampling, settings: SharedSettings
) -> Iterator[Iterator[DecodedFrame]]:
    """The frames of the input."""
    reading = STORED[record.media].reading
    source = IsolatedSource(Input(str(path), reading, record.options.fps, sampling), decode_limits(settings))
    try:
        yield source.frames()
    finally:
        source.close()


def _counted(
    connection: redis.Redis, kind: Rendition, record: JobRecord, frames: Iterable[DecodedFrame]
) -> Iterator[DecodedFrame]:
    """Yield the frames, and publish the rendered share every `TELL_S` if the duration is known.

    Raises: FileNotFoundError if the job was removed meanwhile.
    """
    options, whole_s = record.options, record.input.duration_s or 0.0
    start_s, end_s = options.start_s or 0.0, min(whole_s, options.end_s or whole_s)
    told = 0.0
    for frame in frames:
        yield frame
        if time.monotonic() - told < TELL_S:
            continue
        told = time.monotonic()
        if not connection.exists(keys.job(record.id)):
            raise FileNotFoundError("the job was removed")
        if end_s > start_s:
            share = min(max((frame.timestamp_s - start_s) / (end_s - start_s), 0.0), 1.0)
            if connection.exists(kind.key(record.id)):
                connection.hset(kind.key(record.id), "share", f"{share:.3f}")


def _unless_stopped(frames: Iterable[DecodedFrame]) -> Iterator[DecodedFrame]:
    """Yield the frames.  Raises: _StoppingError; LimitExceededError after `RENDER_TIMEOUT_S`."""
    started = time.monotonic()
    for frame in frames:
        _stop_here()
        if time.monotonic() - started > RENDER_TIMEOUT_S:
            raise LimitExceededError(f"drawing takes longer than {RENDER_TIMEOUT_S} s, the limit of this service")
        yield frame


def _keep(path: Path, kind: Rendition, store: UploadStore, connection: redis.Redis, job_id: str) -> None:
    writer = store.create(job_id, kind.name)
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


def _say(connection: redis.Redis, kind: Rendition, job_id: str, state: str, detail: str = "") -> None:
    """Publish a rendition's state with the time to live of the job's record; none if the job was deleted."""
    key = kind.key(job_id)
    left_s = int(connection.ttl(keys.job(job_id)))
    if left_s == -2:  # Redis: there is no such key
        connection.delete(key)
        return
    with connection.pipeline(transaction=True) as pipe:
        pipe.hset(key, mapping={"state": state, "detail": detail})
        pipe.hdel(key, "share")
        if left_s >= 0:
            pipe.expire(key, left_s)
        pipe.execute()
