"""The upload store in storage that is no folder; fsspec's memory stands for S3-compatible storage."""

from __future__ import annotations

import gc
import uuid

import pytest

from app.contract.uploads import UploadStore

JOB = "0123456789abcdef" * 2


@pytest.fixture
def store() -> UploadStore:
    """An empty store."""
    return UploadStore(f"memory://{uuid.uuid4().hex}")


def put(store: UploadStore, content: bytes, name: str = "input") -> None:
    writer = store.create(JOB, name)
    writer.write(content)
    writer.commit()


def test_what_was_written_is_read_and_removed(store: UploadStore) -> None:
    """Input and video are there whole, in parts and as a local file, until the job's are removed together."""
    store.check_writable()
    assert store.job_ids() == []
    put(store, b"0123456789")
    put(store, b"video" * 1000, "video")
    assert store.exists(JOB)
    assert store.job_ids() == [JOB]
    assert store.size(JOB, "video") == 5000
    assert b"".join(store.read(JOB, "input", 2, 5)) == b"234"
    with store.local_path(JOB) as path:
        assert path.read_bytes() == b"0123456789"
    assert not path.exists()
    store.delete(JOB)
    store.delete(JOB)
    assert not store.exists(JOB)
    assert store.job_ids() == []


def test_an_aborted_upload_leaves_nothing(store: UploadStore) -> None:
    """Neither at once nor when the writer is forgotten does anything of it come into the store."""
    writer = store.create(JOB)
    writer.write(b"half")
    writer.abort()
    del writer
    gc.collect()
    assert not store.exists(JOB)
    assert store.job_ids() == []


def test_errors_of_the_storages_client_are_os_errors(store: UploadStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exceptions of object storage clients become OSError, as for a folder; an invalid id stays a ValueError."""

    class NoConnectionError(Exception):
        """As botocore has them, which are no OSErrors."""

    def fail(*_: object, **__: object) -> None:
        raise NoConnectionError

    for name in ("open", "exists", "size", "rm", "ls", "get_file"):
        monkeypatch.setattr(store._fs, name, fail)
    for call in (
        lambda: store.create(JOB),
        lambda: store.exists(JOB),
        lambda: store.size(JOB, "video"),
        lambda: list(store.read(JOB, "video", 0, 1)),
        lambda: store.delete(JOB),
        store.job_ids,
        store.check_writable,
        lambda: store.local_path(JOB).__enter__(),
    ):
        with pytest.raises(OSError, match="NoConnectionError"):
            call()
    with pytest.raises(ValueError, match="not a job id"):
        store.exists("../other")
