"""Resumable uploads by the tus protocol: https://tus.io/protocols/resumable-upload

The store holds the bytes and Redis the valid offset, so that any front end can continue an upload.  An upload's id
becomes the id of its job: its bytes are stored once and are not copied.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from app.contract import keys
from app.contract.jobs import InputInfo, to_field, utc_now
from app.contract.media import HEAD_BYTES, Kind
from app.contract.pieces import PIECE_BYTES, Pieces, Writers
from app.contract.scripts.uploads import ADVANCE, BEGIN
from app.contract.uploads import INPUT
from app.http.errors import ChecksumMismatch, Conflict, NotFound, StorageFull, TooManyUploads, UploadTooLarge
from app.services import Services
from app.submission.media import file_kind

CHECKSUMS = ("sha1", "sha256", "md5")
CLAIM_S = 300  # lease of the creation of a job, which includes hashing its input
_PIECE = "piece:"  # + start of a piece: the hash field that names the piece's writer
CHECKED_BYTES = 64 * 2**20  # maximum bytes of a request with a checksum, which are buffered until it is verified


@dataclass(frozen=True)
class Upload:
    """A resumable upload.

    length: its final size; offset: stored bytes; name: of the file, or ""; writers: see `Pieces`.
    """

    id: str
    length: int
    offset: int
    name: str
    expires_at: datetime
    writers: Writers = field(default_factory=dict)


async def create(services: Services, owner: str, length: int, name: str) -> Upload:
    """A new upload without bytes.  Raises: UploadTooLarge, TooManyUploads, StorageFull; RedisError."""
    settings = services.settings
    if length > settings.max_upload_bytes:
        raise UploadTooLarge(f"The upload is larger than the limit of {settings.max_upload_bytes} bytes.")
    now = utc_now()
    opened, expires_at = keys.open_resumable(owner), now + timedelta(seconds=settings.upload_ttl_s)
    await services.redis.zremrangebyscore(opened, "-inf", now.timestamp())
    if await services.redis.zcard(opened) >= settings.max_open_uploads:
        raise TooManyUploads(f"{settings.max_open_uploads} uploads are open; finish or remove one first.")
    free = await asyncio.to_thread(services.uploads.free_bytes)
    if free is not None and free < length:
        raise StorageFull("The upload store has no room for this upload.", headers={"Retry-After": "60"})
    upload = Upload(uuid.uuid4().hex, length, 0, name, expires_at)
    fields = {"owner": owner, "length": length, "offset": 0, "name": name, "expires_at": to_field(expires_at)}
    async with services.redis.pipeline(transaction=True) as pipe:
        pipe.hset(keys.resumable(upload.id), mapping=cast(Any, fields))
        pipe.expire(keys.resumable(upload.id), settings.upload_ttl_s)
        pipe.zadd(opened, {upload.id: expires_at.timestamp()})
        pipe.expire(opened, settings.upload_ttl_s)
        await pipe.execute()
    return upload


async def find(services: Services, owner: str, upload_id: str) -> Upload:
    """An owner's upload.  Raises: NotFound if it does not exist, has expired, or has become a job."""
    if keys.JOB_ID.fullmatch(upload_id):
        found = cast(dict[bytes, bytes], await services.redis.hgetall(keys.resumable(upload_id)))
        values = {name.decode(): value.decode() for name, value in found.items()}
        if values and values["owner"] == owner:
            expires_at = datetime.fromisoformat(values["expires_at"])
            length, offset = int(values["length"]), int(values["offset"])
            writers = {int(n.removeprefix(_PIECE)): writer for n, writer in values.items() if n.startswith(_PIECE)}
            return Upload(upload_id, length, offset, values["name"], expires_at, writers)
    raise NotFound("The upload does not exist.")


async def append(services: Services, upload: Upload, offset: int, body: AsyncIterator[bytes], digest: Digest) -> int:
    """Store a request's bytes from `offset` on -> the new offset.

    If the body is interrupted, the received bytes count, unless there is a checksum.  Raises: Conflict if the upload
    has another offset, or another request is sending it; UploadTooLarge; ChecksumMismatch; what `body` raises;
    OSError, RedisError.
    """
    writer = _Writer(services, upload)
    await writer.begin(offset)
    try:
        async for data in body:
            await writer.take(data, digest)
    except BaseException:
        if digest.expected is None:
            await asyncio.shield(writer.flush())
        raise
    digest.check()
    await writer.flush()
    return writer.offset


class Digest:
    """The checksum of a request's body and the one in `Upload-Checksum`; `expected` is None without that header."""

    def __init__(self, algorithm: str = "", expected: bytes | None = None) -> None:
        self.expected = expected
        self._hash = hashlib.new(algorithm, usedforsecurity=False) if algorithm else None

    def update(self, data: bytes) -> None:
        """Add a part of the body."""
        if self._hash is not None:
            self._hash.update(data)

    def check(self) -> None:
        """Raises: ChecksumMismatch if the checksums differ."""
        if self._hash is not None and self._hash.digest() != self.expected:
            raise ChecksumMismatch("The checksum of the received bytes differs; send them again.")


class _Writer:
    """Stores one request's bytes in pieces.  offset: stored bytes of the upload."""

    def __init__(self, services: Services, upload: Upload) -> None:
        self._redis = services.redis
        self._pieces = Pieces(services.uploads, upload.id)
        self._upload = upload
        self._key = keys.resumable(upload.id)
        self._token = uuid.uuid4().hex
        self._start = 0
        self._buffer = bytearray()
        self.offset = 0

    async def begin(self, offset: int) -> None:
        answer = await self._redis.register_script(BEGIN)(keys=[self._key], args=[self._token, offset])
        if answer == b"gone":
            raise NotFound("The upload does not exist.")
        if answer != b"ok":
            raise Conflict(f"The upload has {answer.decode()} bytes; continue from that offset.")
        self.offset = offset
        self._start, kept = await asyncio.to_thread(self._pieces.resume, offset, self._upload.writers)
        self._buffer += kept

    async def take(self, data: bytes, digest: Digest) -> None:
        digest.update(data)
        self._buffer += data
        if self._start + len(self._buffer) > self._upload.length:
            self._buffer.clear()
            raise UploadTooLarge("The request exceeds the upload's length.")
        if digest.expected is None and len(self._buffer) >= PIECE_BYTES:
            await self.flush()
        elif len(self._buffer) > CHECKED_BYTES:
            raise UploadTooLarge(f"A request with a checksum has at most {CHECKED_BYTES} bytes; send smaller ones.")

    async def flush(self) -> None:
        if self._start + len(self._buffer) <= self.offset:
            return
        taken_over = Conflict("Another request is sending this upload.")
        # In a folder all requests write to one file, so that a former one must not write first and ask then.
        if await cast(Awaitable[bytes | None], self._redis.hget(self._key, "writer")) != self._token.encode():
            raise taken_over
        data = bytes(self._buffer)
        await asyncio.to_thread(self._pieces.write, self._start, data, self._token)
        offset = self._start + len(data)
        advance = self._redis.register_script(ADVANCE)
        if await advance(keys=[self._key], args=[self._token, self._start, offset]) != b"ok":
            raise taken_over
        self.offset = self._start = offset
        self._buffer.clear()


@asynccontextmanager
async def alone(services: Services, upload_id: str) -> AsyncIterator[None]:
    """A lock while an upload becomes a job or is removed.  Raises: Conflict if another request holds it."""
    claim = f"{keys.resumable(upload_id)}:claim"
    if not await services.redis.set(claim, "1", nx=True, ex=CLAIM_S):
        raise Conflict("Another request is using or removing this upload.")
    try:
        yield
    finally:
        await services.redis.delete(claim)


async def remove(services: Services, owner: str, upload_id: str) -> None:
    """Delete an upload and its bytes; call it inside `alone`."""
    await forget(services, owner, upload_id)
    await asyncio.to_thread(services.uploads.delete, upload_id)


async def forget(services: Services, owner: str, upload_id: str) -> None:
    """Delete an upload's record; its bytes stay."""
    async with services.redis.pipeline(transaction=True) as pipe:
        pipe.delete(keys.resumable(upload_id))
        pipe.zrem(keys.open_resumable(owner), upload_id)
        await pipe.execute()


async def complete(services: Services, upload: Upload) -> tuple[Kind, InputInfo]:
    """Make the bytes an input in the store.  Returns its kind and sizes.

    Raises: Conflict if bytes are missing; UnsupportedMedia; OSError.
    """
    if upload.offset != upload.length:
        raise Conflict(f"The upload has {upload.offset} of {upload.length} bytes; send the rest first.")
    return await asyncio.to_thread(_complete, services, upload)


def _complete(services: Services, upload: Upload) -> tuple[Kind, InputInfo]:
    head, digest = b"", hashlib.sha256()
    if upload.length:
        Pieces(services.uploads, upload.id).complete(upload.length, upload.writers)
        for data in services.uploads.read(upload.id, INPUT, 0, upload.length):
            head = head or data[:HEAD_BYTES]
            digest.update(data)
    kind = file_kind(head)
    return kind, InputInfo(kind=kind.input_kind, bytes=upload.length, sha256=digest.hexdigest())
