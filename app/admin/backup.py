"""Backups: all keys of Mien and RQ in Redis and the files of the upload store, in one tar file.

Values are read and written by type, so the Redis user of front ends suffices and other versions of Redis can restore
them.  Times to live continue: keys that have expired by the time of the restore are omitted.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
import tempfile
import time
from pathlib import Path
from typing import IO, Any, cast

from app.admin.office import BATCH, CannotError, Office
from app.contract import keys
from app.contract.uploads import READ_BYTES

RECORDS, UPLOADS = "redis.jsonl", "uploads/"
OURS = (f"{keys.PREFIX}*", "rq:*")
# State of live processes, not of jobs.
PASSING = (keys.WORKERS, keys.worker(""), keys.drained(""), keys.SWEEP_LOCK, "rq:workers", "rq:worker:")


async def backup(office: Office, to: Path) -> tuple[int, int]:
    """Write the tar -> its number of keys and files.  Jobs that are made or end meanwhile may be incomplete in it."""
    with tempfile.TemporaryFile() as lines:
        count = await _dump(office, lines)
        with tarfile.open(to, "w") as tar:
            _add(tar, RECORDS, lines, lines.tell())
            files = 0
            for job_id in office.uploads.job_ids():
                for name in office.uploads.files(job_id):
                    size = office.uploads.size(job_id, name)
                    with tempfile.TemporaryFile() as copy:  # object storage's streams lack `read`
                        for piece in office.uploads.read(job_id, name, 0, size):
                            copy.write(piece)
                        _add(tar, f"{UPLOADS}{job_id}/{name}", copy, size)
                    files += 1
    return count, files


async def restore(office: Office, source: Path) -> tuple[int, int]:
    """Restore a backup into an empty Redis and into the upload store -> the number of restored keys and files.

    Raises: CannotError if Redis has jobs already, or the file is not a backup.
    """
    if await office.redis.exists(keys.OPEN) or [key async for key in office.redis.scan_iter(match=f"{keys.JOBS}*")]:
        raise CannotError("this Redis already has jobs: restore into an empty one")
    count = files = 0
    try:
        with tarfile.open(source) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is None:
                    continue
                if member.name == RECORDS:
                    for line in content:
                        count += await _put(office, json.loads(line))
                elif member.name.startswith(UPLOADS):
                    job_id, name = member.name.removeprefix(UPLOADS).split("/")
                    _store(office, job_id, name, content)
                    files += 1
    except (tarfile.TarError, ValueError, KeyError) as error:
        raise CannotError(f"{source} is not a backup: {error}") from None
    return count, files


async def _dump(office: Office, lines: IO[bytes]) -> int:
    count = 0
    for pattern in OURS:
        async for key in office.redis.scan_iter(match=pattern, count=BATCH):
            if key.decode().startswith(PASSING):
                continue
            ttl_ms = await office.redis.pttl(key)
            kind = cast(bytes, await office.redis.type(key)).decode()
            if kind == "none":  # it has just expired
                continue
            entry = {"key": key.decode(), "kind": kind, "value": await _value(office, key, kind)}
            if ttl_ms > 0:
                entry["until_ms"] = round(time.time() * 1000) + ttl_ms
            lines.write(json.dumps(entry).encode() + b"\n")
            count += 1
    return count


async def _value(office: Office, key: bytes, kind: str) -> Any:
    connection = office.redis
    if kind == "hash":
        return [
            [_text(name), _text(value)]
            for name, value in cast(dict[bytes, bytes], await connection.hgetall(key)).items()
        ]
    if kind == "list":
        return [_text(value) for value in cast(list[bytes], await connection.lrange(key, 0, -1))]
    if kind == "set":
        return [_text(value) for value in cast(set[bytes], await connection.smembers(key))]
    if kind == "zset":
        rows = cast(list[tuple[bytes, float]], await connection.zrange(key, 0, -1, withscores=True))
        return [[_text(name), score] for name, score in rows]
    return _text(cast(bytes, await connection.get(key)))


async def _put(office: Office, entry: dict[str, Any]) -> bool:
    """Write one key, unless it has expired."""
    key, kind, value = entry["key"], entry["kind"], entry["value"]
    left_ms = entry.get("until_ms", float("inf")) - time.time() * 1000
    if left_ms <= 0 or not value:
        return False
    async with office.redis.pipeline(transaction=True) as pipe:
        if kind == "hash":
            pipe.hset(key, mapping={_bytes(name): _bytes(text) for name, text in value})
        elif kind == "list":
            pipe.rpush(key, *map(_bytes, value))
        elif kind == "set":
            pipe.sadd(key, *map(_bytes, value))
        elif kind == "zset":
            pipe.zadd(key, {_bytes(name): score for name, score in value})
        else:
            pipe.set(key, _bytes(value))
        if left_ms != float("inf"):
            pipe.pexpire(key, round(left_ms))
        await pipe.execute()
    return True


def _store(office: Office, job_id: str, name: str, content: IO[bytes]) -> None:
    writer = office.uploads.create(job_id, name)
    try:
        while piece := content.read(READ_BYTES):
            writer.write(piece)
    except BaseException:
        writer.abort()
        raise
    writer.commit()


def _add(tar: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    content.seek(0, io.SEEK_SET)
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, round(time.time()), 0o600
    tar.addfile(info, content)


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
