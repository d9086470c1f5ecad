"""The upload store: one input a job, in a folder that both sides share or in S3-compatible object storage.

A job's input is `<store>/<job id>/input`; the name is made here, never by a client.  It appears whole or not at all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from app.contract.keys import JOB_ID

INPUT = "input"


class UploadStore:
    """Inputs by job id.  Every method blocks; raises OSError where the storage does."""

    def __init__(self, url: str) -> None:
        """url: a folder, or an fsspec URL such as `s3://bucket/prefix` (which needs that protocol's package)."""
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self.is_folder = isinstance(self._fs, LocalFileSystem)
        if self.is_folder:
            os.makedirs(self._root, mode=0o700, exist_ok=True)

    def create(self, job_id: str) -> UploadWriter:
        """A writer for a new input; nothing is visible until its `commit`."""
        folder = self._folder(job_id)
        if self.is_folder:
            os.mkdir(folder, 0o700)
        return UploadWriter(
            self, job_id, self._fs.open(f"{folder}/{INPUT}.part" if self.is_folder else f"{folder}/{INPUT}", "wb")
        )

    @contextmanager
    def local_path(self, job_id: str) -> Iterator[Path]:
        """The input as a file on this machine, for decoders that need one; a copy is removed afterwards.

        Raises: FileNotFoundError if there is no input.
        """
        source = f"{self._folder(job_id)}/{INPUT}"
        if self.is_folder:
            if not os.path.isfile(source):
                raise FileNotFoundError(f"no input for job {job_id}")
            yield Path(source)
            return
        folder = Path(tempfile.mkdtemp(prefix="mien-input-"))
        try:
            self._fs.get_file(source, str(folder / INPUT))
            yield folder / INPUT
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def exists(self, job_id: str) -> bool:
        """Whether the job's whole input is there."""
        return bool(self._fs.exists(f"{self._folder(job_id)}/{INPUT}"))

    def delete(self, job_id: str) -> None:
        """Remove everything of a job; no error where there is nothing."""
        with suppress(FileNotFoundError):
            self._fs.rm(self._folder(job_id), recursive=True)

    def job_ids(self) -> list[str]:
        """Jobs of which something is stored."""
        self._fs.invalidate_cache()
        try:
            entries = self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        names = (str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries)
        return [name for name in names if JOB_ID.fullmatch(name)]

    def check_writable(self) -> None:
        """Write and remove a small file.

        Raises: OSError if that fails.
        """
        probe = f"{self._root}/.probe-{uuid.uuid4().hex}"
        with self._fs.open(probe, "wb") as file:
            file.write(b"mien")
        self._fs.rm(probe)

    def _folder(self, job_id: str) -> str:
        if not JOB_ID.fullmatch(job_id):
            raise ValueError(f"not a job id: {job_id!r}")
        return f"{self._root}/{job_id}"

    def _commit(self, job_id: str) -> None:
        if self.is_folder:
            folder = self._folder(job_id)
            os.replace(f"{folder}/{INPUT}.part", f"{folder}/{INPUT}")


class UploadWriter:
    """Writes one input.  `commit` makes it visible, `abort` leaves nothing; one of the two must be called."""

    def __init__(self, store: UploadStore, job_id: str, file: IO[bytes] | Any) -> None:
        self._store = store
        self._job_id = job_id
        self._file = file

    def write(self, data: bytes) -> int:
        """Append."""
        self._file.write(data)
        return len(data)

    def flush(self) -> None:
        """For archive writers, which flush; object storage sends its parts at `commit`."""

    def commit(self) -> None:
        """The input is complete."""
        if self._store.is_folder:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        self._store._commit(self._job_id)

    def abort(self) -> None:
        """Forget everything written."""
        discard = getattr(self._file, "discard", None)
        with suppress(OSError):
            if discard is not None and not self._store.is_folder:
                discard()
            else:
                self._file.close()
        self._store.delete(self._job_id)
