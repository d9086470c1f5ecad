"""The upload store: jobs' files in a folder shared by both sides or in S3-compatible storage.

A job's input is `<store>/<job id>/input`, with its renditions beside it; names never come from clients.  Files appear
atomically.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from app.contract.keys import JOB_ID

INPUT = "input"
PART = ".part"  # suffix of a file during writing
READ_BYTES = 2**18


@contextmanager
def os_errors() -> Iterator[None]:
    """Convert the exceptions of object storage clients to OSError, as a folder raises it."""
    try:
        yield
    except (OSError, ValueError):  # ValueError: raised here for an invalid id
        raise
    except Exception as error:
        raise OSError(errno.EIO, f"the upload store failed: {type(error).__name__}") from error


class UnusableStoreError(OSError):
    """The store's configuration is wrong, so retries cannot help; the message is one line that names the setting."""


class Space(NamedTuple):
    """Disk space of a store, bytes."""

    free: int
    total: int


class _Fetched(fsspec.callbacks.Callback):  # type: ignore[misc]
    """Reports the number of bytes copied."""

    def __init__(self, told: Callable[[int], None]) -> None:
        super().__init__()
        self._told = told

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        self._told(self.value)


class UploadStore:
    """Files by job id.  Every method blocks, and raises OSError if the storage fails."""

    def __init__(self, url: str) -> None:
        """url: a folder, or an fsspec URL such as `s3://bucket/prefix` (which needs that protocol's package).

        Raises: UnusableStoreError.  Object storage is not contacted here.
        """
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
            self.is_folder = isinstance(self._fs, LocalFileSystem)
            if self.is_folder:
                os.makedirs(self._root, mode=0o700, exist_ok=True)
        except (OSError, ImportError, ValueError) as error:
            raise UnusableStoreError(f"MIEN_UPLOADS={url}: {error}") from None

    def create(self, job_id: str, name: str = INPUT) -> UploadWriter:
        """A writer for a new file; nothing is visible until its `commit`.

        Raises: FileExistsError if a folder store already has a file of the job, and `name` is its input.
        """
        path = self._path(job_id, name)
        if self.is_folder:
            os.makedirs(self._folder(job_id), 0o700, exist_ok=name != INPUT)
            path += PART
        with os_errors():
            return UploadWriter(self, job_id, name, self._fs.open(path, "wb"))

    @contextmanager
    def local_path(
        self, job_id: str, name: str = INPUT, fetched: Callable[[int], None] = lambda count: None
    ) -> Iterator[Path]:
        """A job's file as a local path, for decoders that need one; a copy is removed afterwards.

        fetched: called with the number of bytes copied so far.  Raises: FileNotFoundError if there is no such file.
        """
        source = self._path(job_id, name)
        if self.is_folder:
            with open(source, "rb") as file:
                file.read(1)  # separates a storage failure from an undecodable input
            yield Path(source)
            return
        folder = Path(tempfile.mkdtemp(prefix="mien-input-"))
        try:
            with os_errors():
                self._fs.get_file(source, str(folder / INPUT), callback=_Fetched(fetched))
            yield folder / INPUT
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def exists(self, job_id: str, name: str = INPUT) -> bool:
        """Whether the complete file exists."""
        self._fs.invalidate_cache()
        with os_errors():
            return bool(self._fs.exists(self._path(job_id, name)))

    def size(self, job_id: str, name: str) -> int:
        """Size of a file in bytes.  Raises: FileNotFoundError if there is none."""
        self._fs.invalidate_cache()
        with os_errors():
            return int(self._fs.size(self._path(job_id, name)))

    def read(self, job_id: str, name: str, start: int, end: int) -> Iterator[bytes]:
        """Bytes `start` to `end` (exclusive) of a file, in pieces of at most `READ_BYTES`."""
        with os_errors(), self._fs.open(self._path(job_id, name), "rb") as file:
            file.seek(start)
            while start < end and (piece := file.read(min(READ_BYTES, end - start))):
                start += len(piece)
                yield piece

    def delete(self, job_id: str) -> None:
        """Remove all files of a job, if any."""
        with suppress(FileNotFoundError), os_errors():
            self._fs.rm(self._folder(job_id), recursive=True)

    def job_ids(self) -> list[str]:
        """Ids of the jobs with stored files."""
        self._fs.invalidate_cache()
        try:
            with os_errors():
                entries = self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        names = (str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries)
        return [name for name in names if JOB_ID.fullmatch(name)]

    def files(self, job_id: str) -> list[str]:
        """Names of the whole files of a job, in order."""
        self._fs.invalidate_cache()
        try:
            with os_errors():
                entries = self._fs.ls(self._folder(job_id), detail=False)
        except FileNotFoundError:
            return []
        names = (str(entry).rsplit("/", 1)[-1] for entry in entries)
        return sorted(name for name in names if name and not name.endswith(PART))

    def space(self) -> Space | None:
        """The space of a folder's file system; None for object storage."""
        if not self.is_folder:
            return None
        usage = shutil.disk_usage(self._root)
        return Space(usage.free, usage.total)

    def check_writable(self) -> None:
        """Write and remove a small file.

        Raises: OSError if that fails.
        """
        probe = f"{self._root}/.probe-{uuid.uuid4().hex}"
        with os_errors():
            with self._fs.open(probe, "wb") as file:
                file.write(b"mien")
            self._fs.rm(probe)

    def free_bytes(self) -> int | None:
        """Free space in bytes; None if the store does not report it."""
        return shutil.disk_usage(self._root).free if self.is_folder else None

    def _folder(self, job_id: str) -> str:
        if not JOB_ID.fullmatch(job_id):
            raise ValueError(f"not a job id: {job_id!r}")
        return f"{self._root}/{job_id}"

    def _path(self, job_id: str, name: str) -> str:
        return f"{self._folder(job_id)}/{name}"

    def _commit(self, job_id: str, name: str) -> None:
        if self.is_folder:
            path = self._path(job_id, name)
            os.replace(path + PART, path)

    def _abort(self, job_id: str, name: str) -> None:
        """Discard a file.  An input takes the job's other files with it; a rendition does not."""
        if name == INPUT:
            self.delete(job_id)
        elif self.is_folder:
            with suppress(FileNotFoundError):
                os.remove(self._path(job_id, name) + PART)


class UploadWriter:
    """Writes one file.  `commit` makes it visible, `abort` discards it; one of the two must be called."""

    def __init__(self, store: UploadStore, job_id: str, name: str, file: IO[bytes] | Any) -> None:
        self._store = store
        self._job_id = job_id
        self._name = name
        self._file: Any = file

    def write(self, data: bytes) -> int:
        """Append."""
        with os_errors():
            self._file.write(data)
        return len(data)

    def commit(self) -> None:
        """Make the complete file visible."""
        if self._store.is_folder:
            self._file.flush()
            os.fsync(self._file.fileno())
        with os_errors():
            self._file.close()
        self._store._commit(self._job_id, self._name)

    def abort(self) -> None:
        """Discard everything written."""
        discard = getattr(self._file, "discard", None)
        with suppress(OSError), os_errors():
            if discard is not None and not self._store.is_folder:
                discard()
                self._file.closed = True  # or the object's finaliser would upload the discarded data
            else:
                self._file.close()
        self._store._abort(self._job_id, self._name)
