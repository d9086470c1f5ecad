"""An owner's jobs, newest first, a page at a time.

A cursor is the place of the last job that was shown (its time and id), so that jobs that come or go meanwhile are
neither shown twice nor skipped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

import redis.asyncio
import structlog

from app.contract import keys
from app.contract.jobs import JobRecord, State, UnreadableRecordError
from app.http.errors import InvalidOption

BATCH = 200
SCAN_LIMIT = 5000  # jobs looked at for one page, where a filter passes over most
log = structlog.get_logger(__name__)
CURSOR = r"^\d{1,16}\.[0-9a-f]{32}$"


@dataclass(frozen=True, order=True)
class Place:
    """Where a job stands in the list: creation in milliseconds since the epoch, then id."""

    created_ms: int
    job_id: str

    def cursor(self) -> str:
        """As clients carry it."""
        return f"{self.created_ms}.{self.job_id}"

    @classmethod
    def of_cursor(cls, cursor: str) -> Place:
        """Raises: InvalidOption if it is none of ours."""
        if re.fullmatch(CURSOR, cursor, re.ASCII) is None:
            raise InvalidOption("cursor: not one that this list gave", field="cursor")
        created_ms, _, job_id = cursor.partition(".")
        return cls(int(created_ms), job_id)


async def list_jobs(
    connection: redis.asyncio.Redis, owner: str, state: State | None, limit: int, after: Place | None
) -> tuple[list[JobRecord], Place | None]:
    """At most `limit` records after a place.  -> them, and the place after which the next page begins, if there is."""
    found: list[JobRecord] = []
    place = after
    for _ in range(0, SCAN_LIMIT, BATCH):
        places = await _places(connection, owner, place)
        records = await _records(connection, [p.job_id for p in places])
        for here, record in zip(places, records, strict=True):
            if record is not None and state in {None, record.state}:
                if len(found) == limit:
                    return found, place
                found.append(record)
            place = here
        if len(places) < BATCH:
            return found, None
    return found, place


async def _places(connection: redis.asyncio.Redis, owner: str, after: Place | None) -> list[Place]:
    """The next `BATCH` places, newest first."""
    newest = "+inf" if after is None else after.created_ms
    start = 0
    places: list[Place] = []
    while len(places) < BATCH:
        rows = await connection.zrevrangebyscore(keys.jobs(owner), newest, "-inf", start, BATCH, withscores=True)
        pairs = cast(list[tuple[bytes, float]], rows)
        # Redis orders jobs of the same millisecond by id, as places are.
        here = [Place(int(score), job_id.decode()) for job_id, score in pairs]
        places += [place for place in here if after is None or place < after]
        if len(pairs) < BATCH:
            break
        start += BATCH
    return places[:BATCH]


async def _records(connection: redis.asyncio.Redis, job_ids: list[str]) -> list[JobRecord | None]:
    async with connection.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hgetall(keys.job(job_id))
        hashes = cast(list[dict[bytes, bytes]], await pipe.execute())
    return [_record(fields) for fields in hashes]


def _record(fields: dict[bytes, bytes]) -> JobRecord | None:
    try:
        return JobRecord.from_hash(fields) if fields else None
    except UnreadableRecordError as error:  # shown by a front end that reads it; the others of the list are shown here
        log.error("job_unreadable", job_id=fields.get(b"id", b"").decode(errors="replace"), why=str(error))
        return None
