"""An owner's jobs, newest first, a page at a time.

A cursor is the position of the last listed job (its time and id), so that new or deleted jobs cause neither duplicates
nor gaps.  A filter reads only the fields that it needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

import redis.asyncio
import structlog

from app.contract import keys
from app.contract.jobs import JobRecord, State, UnreadableRecordError
from app.http.errors import InvalidOption

BATCH = 200
SCAN_LIMIT = 5000  # maximum jobs that a filter scans for one page; the page may then be short, with a next one
log = structlog.get_logger(__name__)
CURSOR = r"^\d{1,16}\.[0-9a-f]{32}$"


@dataclass(frozen=True, order=True)
class Place:
    """A job's position in the list: creation in milliseconds since the epoch, then id."""

    created_ms: int
    job_id: str

    def cursor(self) -> str:
        """The cursor for clients."""
        return f"{self.created_ms}.{self.job_id}"

    @classmethod
    def of_cursor(cls, cursor: str) -> Place:
        """Parse a cursor.  Raises: InvalidOption if it is malformed."""
        if re.fullmatch(CURSOR, cursor, re.ASCII) is None:
            raise InvalidOption("cursor: not a cursor of this list", field="cursor")
        created_ms, _, job_id = cursor.partition(".")
        return cls(int(created_ms), job_id)


_LOOKED_AT = ("id", "state", "name", "metadata", "label_shares", "persons")


@dataclass(frozen=True)
class Filter:
    """A filter of jobs; empty values match all.

    words: all must occur in the name, the id, the metadata or people's names, case-insensitively.  label: the best
    label of at least `least_share` of the job's faces, and of one face.  since: with a time zone.  metadata: exact
    values by key.
    """

    state: State | None = None
    words: tuple[str, ...] = ()
    label: str = ""
    least_share: float = 0.0
    since: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def reads(self) -> bool:
        """Whether it needs fields of a job's hash."""
        return bool(self.state or self.words or self.label or self.metadata)

    @property
    def oldest_ms(self) -> float | str:
        """The minimum score of a job in its owner's sorted set."""
        return "-inf" if self.since is None else self.since.timestamp() * 1000

    def takes(self, job_id: bytes | None, values: list[bytes | None]) -> bool:
        """Whether the job matches.  values: of the hash fields after `id`, as in Redis."""
        state, name, metadata, shares, persons = (value or b"" for value in values)
        if job_id is None or self.state not in {None, state.decode()}:
            return False
        said = json.loads(metadata or b"{}")
        if any(said.get(key) != value for key, value in self.metadata.items()):
            return False
        if self.label:
            found = {label.casefold(): share for label, share in json.loads(shares or b"{}").items()}
            share = found.get(self.label.casefold(), 0.0)
            if share <= 0 or share < self.least_share:
                return False
        people = (person["name"] or "" for person in json.loads(persons or b"[]"))
        text = " ".join([name.decode(), job_id.decode(), *said.values(), *people]).casefold()
        return all(word.casefold() in text for word in self.words)


async def list_jobs(
    connection: redis.asyncio.Redis, index: str, wanted: Filter, limit: int, after: Place | None
) -> tuple[list[JobRecord], Place | None]:
    """At most `limit` records after a position, and the position before the next page, None without one.

    index: key of an owner's jobs, or of a batch.
    """
    found: list[JobRecord] = []
    place = after
    for _ in range(0, SCAN_LIMIT, BATCH):
        places = await _places(connection, index, place, wanted.oldest_ms)
        taken = await _taken(connection, [p.job_id for p in places], wanted)
        records = await records_of(connection, taken)
        for here in places:
            record = records.get(here.job_id)
            if record is not None:
                if len(found) == limit:
                    return found, place
                found.append(record)
            place = here
        if len(places) < BATCH:
            return found, None
    return found, place


async def _taken(connection: redis.asyncio.Redis, job_ids: list[str], wanted: Filter) -> list[str]:
    """The jobs that match the filter."""
    if not wanted.reads:
        return job_ids
    async with connection.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hmget(keys.job(job_id), *_LOOKED_AT)
        rows = cast(list[list[bytes | None]], await pipe.execute())
    return [job_id for job_id, (known, *values) in zip(job_ids, rows, strict=True) if wanted.takes(known, values)]


async def _places(connection: redis.asyncio.Redis, index: str, after: Place | None, oldest: float | str) -> list[Place]:
    """The next `BATCH` places, newest first."""
    newest = "+inf" if after is None else after.created_ms
    start = 0
    places: list[Place] = []
    while len(places) < BATCH:
        rows = await connection.zrevrangebyscore(index, newest, oldest, start, BATCH, withscores=True)
        pairs = cast(list[tuple[bytes, float]], rows)
        # Redis sorts jobs of the same millisecond by id, like `Place`.
        here = [Place(int(score), job_id.decode()) for job_id, score in pairs]
        places += [place for place in here if after is None or place < after]
        if len(pairs) < BATCH:
            break
        start += BATCH
    return places[:BATCH]


async def records_of(connection: redis.asyncio.Redis, job_ids: list[str]) -> dict[str, JobRecord | None]:
    """Jobs by id, in the same order; None if missing or unreadable for this release."""
    async with connection.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hgetall(keys.job(job_id))
        hashes = cast(list[dict[bytes, bytes]], await pipe.execute())
    return {job_id: _record(fields) for job_id, fields in zip(job_ids, hashes, strict=True)}


def _record(fields: dict[bytes, bytes]) -> JobRecord | None:
    try:
        return JobRecord.from_hash(fields) if fields else None
    except UnreadableRecordError as error:  # a front end of another release can list it; the rest is listed here
        log.error("job_unreadable", job_id=fields.get(b"id", b"").decode(errors="replace"), why=str(error))
        return None
