"""Resumable uploads: each piece is durable on arrival, and together the pieces become a job's input.

In a folder they are written to one file.  Object storage cannot append, so each piece is an object, and the storage
joins them at the end (S3: a multipart upload that copies parts) without transferring the bytes again.  If two requests
send the same bytes, the caller's `writers` name the valid objects.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from app.contract.uploads import INPUT, PART, READ_BYTES, UploadStore, os_errors

PIECE_BYTES = 8 * 2**20  # preferred size of a piece
LEAST_PART_BYTES = 5 * 2**20  # S3's minimum size of a part, except the last
_PIECE = "piece-"

Writers = Mapping[int, str]  # start of a piece -> token of its writer


class Pieces:
    """The pieces of one upload.  Every method blocks, and raises OSError if the storage fails."""

    def __init__(self, store: UploadStore, upload_id: str) -> None:
        self._store = store
        self._input = store._path(upload_id, INPUT)
        self._folder = store._folder(upload_id)

    def resume(self, offset: int, writers: Writers) -> tuple[int, bytes]:
        """The start of the next piece, and its first bytes, before the data from `offset` on.

        Usually `offset` and no bytes.  If the last object is too small for a part, its start and content: it is
        written again.
        """
        start = max((start for start in writers if start < offset), default=offset)
        if self._store.is_folder or not 0 < offset - start < LEAST_PART_BYTES:
            return offset, b""
        with os_errors(), self._store._fs.open(self._piece(start, writers[start]), "rb") as file:
            return start, bytes(file.read(offset - start))

    def write(self, start: int, data: bytes, writer: str) -> None:
        """Store bytes that begin at `start`."""
        if self._store.is_folder:
            os.makedirs(self._folder, 0o700, exist_ok=True)
            descriptor = os.open(self._input + PART, os.O_WRONLY | os.O_CREAT, 0o600)
            with open(descriptor, "wb") as file:
                file.seek(start)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            return
        with os_errors(), self._store._fs.open(self._piece(start, writer), "wb") as file:
            file.write(data)

    def complete(self, length: int, writers: Writers) -> None:
        """Make the first `length` bytes the job's input; idempotent."""
        if self._store.is_folder:
            if os.path.exists(self._input + PART):
                os.truncate(self._input + PART, length)
                os.replace(self._input + PART, self._input)
            return
        filesystem = self._store._fs
        filesystem.invalidate_cache()
        with os_errors():
            there = [str(path) for path in filesystem.ls(self._folder, detail=False)]
            stored = [path for path in there if path.rsplit("/", 1)[-1].startswith(_PIECE)]
            if not stored:
                return
            pieces = [self._piece(start, writers[start]) for start in sorted(writers)]
            if len(pieces) > 1 and hasattr(filesystem, "merge"):
                filesystem.merge(self._input, pieces)
            else:
                self._join(pieces)
            filesystem.rm(stored)

    def _join(self, pieces: list[str]) -> None:
        with self._store._fs.open(self._input, "wb") as whole:
            for piece in pieces:
                with self._store._fs.open(piece, "rb") as file:
                    while data := file.read(READ_BYTES):
                        whole.write(data)

    def _piece(self, start: int, writer: str) -> str:
        return f"{self._folder}/{_PIECE}{start:020d}-{writer}"
