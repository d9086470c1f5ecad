"""Frame records, read from the chunks in Redis."""

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

STREAM_CHUNKS = 16  # read from Redis at once by whole exports


@dataclass(frozen=True)
class Page:
    """frames: from the asked position on, as many as there are, at most as many as asked.  more: others follow now."""

    frames: list[Frame]
    more: bool


@dataclass(frozen=True)
class Results:
    """The frames of one execution of a job, by position among the sampled frames.

    All chunks but a job's last hold exactly `chunks.CHUNK_FRAMES` frames, so a position names its chunk.
    """

    connection: redis.asyncio.Redis
    job_id: str
    execution: str

    @classmethod
    def of(cls, connection: redis.asyncio.Redis, record: JobRecord) -> Results:
        """What the execution that counts has written so far."""
        return cls(connection, record.id, record.execution)

    async def page(self, start: int, limit: int) -> Page:
        """At most `limit` frames from position `start` on."""
        first, last = start // chunks.CHUNK_FRAMES, (start + limit) // chunks.CHUNK_FRAMES
        frames = await self._read(first, last)
        offset = start - first * chunks.CHUNK_FRAMES
        return Page(frames[offset : offset + limit], len(frames) > offset + limit)

    def iterate(self, blocking: redis.Redis, start: int = 0) -> Iterator[Frame]:
        """All frames that there are from position `start` on, with flat memory.  Blocks: for threads."""
        first = start // chunks.CHUNK_FRAMES
        skip = start - first * chunks.CHUNK_FRAMES
        while self.execution:
            key = keys.frames(self.job_id, self.execution)
            found = cast(list[bytes], blocking.lrange(key, first, first + STREAM_CHUNKS - 1))
            for chunk in found:
                yield from chunks.decode(chunk)[skip:]
                skip = 0
            if len(found) < STREAM_CHUNKS:
                return
            first += STREAM_CHUNKS

    def times(self, blocking: redis.Redis) -> tuple[float, float]:
        """Times of the first and the last frame, seconds; zeros where there is none.  Blocks: for threads."""
        key = keys.frames(self.job_id, self.execution)
        ends = [cast(bytes | None, blocking.lindex(key, place)) for place in (0, -1)] if self.execution else []
        frames = [frame for chunk in ends if chunk for frame in chunks.decode(chunk)]
        return (frames[0].timestamp_s, frames[-1].timestamp_s) if frames else (0.0, 0.0)

    async def _read(self, first: int, last: int) -> list[Frame]:
        if not self.execution:
            return []
        found = await self.connection.lrange(keys.frames(self.job_id, self.execution), first, last)
        # A chunk takes about a millisecond to decode: in a thread, so that others are answered meanwhile.
        return await asyncio.to_thread(_decode, cast(list[bytes], found)) if found else []


def is_complete(record: JobRecord) -> bool:
    """No more frames will come."""
    return record.state in ENDED


def _decode(found: list[bytes]) -> list[Frame]:
    return [frame for chunk in found for frame in chunks.decode(chunk)]
