"""An upload that comes in pieces: each is stored for good when it comes, and together they become a job's input.

In a folder they are written into one file.  In object storage, which cannot append, each is an object of its own; at
the end the storage joins them (S3: a multipart upload that copies parts), so no byte passes here twice.  Which objects
count their caller knows, as writers by where pieces begin: of two requests that send the same bytes one is late.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from app.contract.uploads import INPUT, PART, READ_BYTES, UploadStore, os_errors

PIECE_BYTES = 8 * 2**20  # what a piece should have
LEAST_PART_BYTES = 5 * 2**20  # S3 joins no smaller parts, but for the last
_PIECE = "piece-"

Writers = Mapping[int, str]  # of pieces, by where they begin


class Pieces:
    """The pieces of one upload.  Every method blocks; raises OSError where the storage does."""

    def __init__(self, store: UploadStore, upload_id: str) -> None:
        self._store = store
        self._input = store._path(upload_id, INPUT)
        self._folder = store._folder(upload_id)

    def resume(self, offset: int, writers: Writers) -> tuple[int, bytes]:
        """Where the next piece has to begin so that bytes from `offset` on can follow, and what it begins with.

        That is `offset` and nothing, unless the last object is too small for a part: then it is written anew.
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
        """The first `length` bytes become the job's input; done again it changes nothing."""
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
