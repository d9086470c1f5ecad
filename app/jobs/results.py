"""Frame records from the chunks in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import redis
import redis.asyncio

from app.contract import chunks, keys
from app.contract.frames import Frame
from app.contract.jobs import ENDED, JobRecord
from app.contract.whole import Whole

STREAM_CHUNKS = 16  # read from Redis at once by whole exports


@dataclass(frozen=True)
class Page:
    """frames: from the requested position, up to the limit.  more: whether further frames exist now."""

    frames: list[Frame]
    more: bool


class Results:
    """Reads the stored results of jobs, from their current executions.

    Frames are addressed by position among the sampled ones.  All chunks except a job's last hold exactly
    `chunks.CHUNK_FRAMES` frames, so a position determines its chunk.

    blocking: a client for the blocking methods, which run in threads.
    """

    def __init__(self, connection: redis.asyncio.Redis, blocking: redis.Redis) -> None:
        self._connection = connection
        self._blocking = blocking

    async def page(self, record: JobRecord, start: int, limit: int, *, whole: bool = True) -> Page:
        """At most `limit` frames from position `start`.  whole: add the data of an ended job (`contract.whole`)."""
        first, last = start // chunks.CHUNK_FRAMES, (start + limit) // chunks.CHUNK_FRAMES
        found = await self._connection.lrange(_key(record), first, last) if record.execution else []
        # Decoding takes about a millisecond for each chunk: in a thread, so that the event loop is not blocked.
        frames = await asyncio.to_thread(_decode, cast(list[bytes], found)) if found else []
        offset = start - first * chunks.CHUNK_FRAMES
        page, more = frames[offset : offset + limit], len(frames) > offset + limit
        if whole and _has_whole(record):
            page = list(_read(await self._connection.get(_whole_key(record))).join(page))
        return Page(page, more)

    def iterate(self, record: JobRecord, start: int = 0) -> Iterator[Frame]:
        """All frames from position `start`, streamed in constant memory.  Blocks."""
        frames = self._stored(record, start)
        yield from self.whole(record).join(frames) if _has_whole(record) else frames

    def whole(self, record: JobRecord) -> Whole:
        """The data over a whole ended job, if it asked for any; else empty.  Blocks."""
        return _read(self._blocking.get(_whole_key(record)) if _has_whole(record) else None)

    def _stored(self, record: JobRecord, start: int) -> Iterator[Frame]:
        first = start // chunks.CHUNK_FRAMES
        skip = start - first * chunks.CHUNK_FRAMES
        while record.execution:
            found = cast(list[bytes], self._blocking.lrange(_key(record), first, first + STREAM_CHUNKS - 1))
            for chunk in found:
                yield from chunks.decode(chunk)[skip:]
                skip = 0
            if len(found) < STREAM_CHUNKS:
                return
            first += STREAM_CHUNKS

    def times(self, record: JobRecord) -> tuple[float, float]:
        """Times of the first and the last frame, seconds; zeros without frames.  Blocks."""
        places = (0, -1) if record.execution else ()
        ends = [cast(bytes | None, self._blocking.lindex(_key(record), place)) for place in places]
        frames = [frame for chunk in ends if chunk for frame in chunks.decode(chunk)]
        return (frames[0].timestamp_s, frames[-1].timestamp_s) if frames else (0.0, 0.0)


def is_complete(record: JobRecord) -> bool:
    """Whether no more frames will be added."""
    return record.state in ENDED


def _decode(found: list[bytes]) -> list[Frame]:
    return [frame for chunk in found for frame in chunks.decode(chunk)]


def _key(record: JobRecord) -> str:
    return keys.frames(record.id, record.execution)


def _has_whole(record: JobRecord) -> bool:
    return bool(record.execution and is_complete(record) and record.options.late_fields)


def _whole_key(record: JobRecord) -> str:
    return keys.whole(record.id, record.execution)


def _read(data: object) -> Whole:
    return Whole.decode(data) if isinstance(data, bytes) else Whole()
