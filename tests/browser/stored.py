"""Jobs with invented results: for lengths that labelling would take too long for."""

from __future__ import annotations

import math
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any

import redis

from app.contract import keys
from app.contract.frames import Face, Frame
from app.contract.jobs import InputInfo, JobRecord, ModelRef, utc_now
from app.contract.options import JobOptions
from app.contract.uploads import UploadStore
from tests.manual_worker import LABELS, ManualWorker

FPS = 25
SIZE = (640, 360)


def invented(count: int, faces: int) -> Iterator[Frame]:
    """Frames whose values wander smoothly, so that every label comes first at times; members differ a little."""
    for index in range(count):
        yield Frame(index, index / FPS, tuple(_face(index, track) for track in range(faces) if _present(index, track)))


def crowd(count: int, tracks: int) -> Iterator[Frame]:
    """Frames of many people of whom a few are there at a time; the first is always, and longest."""
    stay = 8 * count // (tracks + 8)
    for index in range(count):
        here = [track for track in range(1, tracks) if 0 <= index - track * (count - stay) // tracks < stay]
        yield Frame(index, index / FPS, tuple(_face(index, track, place) for place, track in enumerate([0, *here])))


def store(url: str, frames: list[Frame], size: tuple[int, int] = SIZE, content: bytes = b"", **fields: Any) -> str:
    """Write a finished job -> its id.  content: what was labelled; fields: of the record, where they matter."""
    now = utc_now()
    record = JobRecord(
        id=uuid.uuid4().hex,
        queue="mien-default",
        media="mp4",
        created_at=now,
        expires_at=now,
        options=fields.pop("options", JobOptions()),
        model=ModelRef(name="default"),
        input=InputInfo(
            kind="video",
            bytes=len(content) or 10**7,
            sha256="0" * 64,
            width=size[0],
            height=size[1],
            fps=FPS,
            duration_s=len(frames) / FPS,
            frame_count=len(frames),
        ),
        **fields,
    )
    with redis.Redis.from_url(url) as connection, tempfile.TemporaryDirectory() as uploads:
        connection.hset(keys.job(record.id), mapping=dict(record.to_hash()))
        connection.zadd(keys.jobs(record.owner), {record.id: int(now.timestamp() * 1000)})
        ManualWorker(connection, UploadStore(uploads)).label(record.id, frames)
    return record.id


def _present(index: int, track: int) -> bool:
    """The first face always, others now and then."""
    return track == 0 or (index // 500 + track) % 3 != 0


def _face(index: int, track: int, place: int | None = None) -> Face:
    x = (80 + 150 * track if place is None else 10 + 65 * place) + 30 * math.sin(index / 60)
    scores = [_scores(index + 9 * member, track) for member in range(4)]
    return Face(track, (x, 90 + 10 * math.cos(index / 50), 110, 110), 0.9, scores[0], tuple(scores[1:]))


def _scores(index: int, track: int) -> tuple[float, ...]:
    raw = [math.exp(2.5 * math.sin(index / (90 + 13 * k) + 2 * k + track)) for k in range(len(LABELS))]
    return tuple(value / sum(raw) for value in raw)
