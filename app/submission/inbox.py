"""One upload into the store: validated, counted and hashed as a stream, never in memory as a whole."""

from __future__ import annotations

import asyncio
import hashlib
import zipfile
from contextlib import suppress
from typing import IO

from app.contract.jobs import InputInfo
from app.contract.media import HEAD_BYTES, STORED, Kind
from app.contract.uploads import UploadStore, UploadWriter
from app.http.errors import InvalidOption, UploadTooLarge
from app.submission.media import file_kind, image_kind

MAX_FRAMES = 10_000  # `frames` in one request
WRITE_BYTES = 2**20  # size of a write in a thread


class Inbox:
    """Takes one `file`, or several `frames`, in pieces; `commit` or `abort` ends it.

    Images are stored as one uncompressed zip, `000000.jpg` and so on, in order.  Everything that touches the store
    runs in a thread, one call after the other.
    """

    def __init__(self, store: UploadStore, job_id: str) -> None:
        self._store = store
        self.job_id = job_id
        self._writer: UploadWriter | None = None
        self._archive: zipfile.ZipFile | None = None
        self._entry: IO[bytes] | None = None
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._frames = 0
        self._part = ""
        self._stored: Kind | None = None
        self._identified = False

    @property
    def is_empty(self) -> bool:
        """Whether no part has begun."""
        return not self._part

    def begin(self, part: str) -> None:
        """Begin a part, `file` or `frames`.  Raises: InvalidOption if they are mixed; UploadTooLarge."""
        if self._part and (part, self._part) != ("frames", "frames"):
            raise InvalidOption("Send one `file`, or several `frames`, not both.", field=part)
        self._part = part
        self._identified = False
        self._frames += 1
        if self._frames > MAX_FRAMES:
            raise UploadTooLarge(f"At most {MAX_FRAMES} frames a request; send a zip or a video.", field="frames")

    async def write(self, data: bytes) -> None:
        """Append to the part.  Raises: UnsupportedMedia, OSError."""
        self._buffer += data
        if len(self._buffer) >= WRITE_BYTES:
            await self._flush(last=False)

    async def end(self) -> None:
        """End the part.  Raises: UnsupportedMedia, OSError."""
        await self._flush(last=True)

    async def commit(self) -> tuple[str, InputInfo]:
        """The upload is complete and visible to workers.  -> `media` of its record, and its sizes.  Raises: OSError."""
        if self._stored is None or self._writer is None:
            raise RuntimeError("commit before any part's end")
        await asyncio.to_thread(self._commit, self._writer)
        info = InputInfo(kind=self._stored.input_kind, bytes=self._bytes, sha256=self._digest.hexdigest())
        return self._stored.name, info

    async def abort(self) -> None:
        """Remove the upload, if any."""
        await asyncio.to_thread(self._abort)

    async def _flush(self, *, last: bool) -> None:
        data = bytes(self._buffer)
        self._buffer.clear()
        kind: Kind | None = None
        if not self._identified:
            head = data[:HEAD_BYTES]
            kind = image_kind(head) if self._part == "frames" else file_kind(head)
            self._identified = True
        await asyncio.to_thread(self._put, data, kind, last)

    def _put(self, data: bytes, kind: Kind | None, last: bool) -> None:
        if self._writer is None:
            self._writer = self._store.create(self.job_id)
        if kind is not None:
            self._stored = STORED[kind.reading] if kind.is_image else kind
        if kind is not None and kind.is_image:
            if self._archive is None:
                self._archive = zipfile.ZipFile(_Sink(self._writer), "w", zipfile.ZIP_STORED)
            # zip64, since an image's size is unknown when it begins.
            self._entry = self._archive.open(f"{self._frames - 1:06d}.{kind.name}", "w", force_zip64=True)
        self._digest.update(data)
        self._bytes += len(data)
        if self._entry is None:
            self._writer.write(data)
            return
        self._entry.write(data)
        if last:
            self._entry.close()
            self._entry = None

    def _commit(self, writer: UploadWriter) -> None:
        if self._archive is not None:
            self._archive.close()
        writer.commit()

    def _abort(self) -> None:
        for part in (self._entry, self._archive):
            if part is not None:
                with suppress(OSError, ValueError):
                    part.close()
        if self._writer is not None:
            self._writer.abort()


class _Sink:
    """The archive's output file; closing it does not close the upload."""

    def __init__(self, writer: UploadWriter) -> None:
        self._writer = writer

    def write(self, data: bytes) -> int:
        return self._writer.write(data)

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """`commit` closes the upload."""
