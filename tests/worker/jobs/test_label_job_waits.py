"""A job that waits for its model, its input or its first frame can be cancelled, is watched, and is tried again."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.contract import keys
from app.contract.uploads import UploadStore
from tests.waiting import until
from tests.worker.jobs.rig import JOB, Rig
from worker.decode import DecodeLimits, Sampling
from worker.decode.isolated import DecodingProcess, IsolatedSource
from worker.decode.messages import Input, Sound
from worker.inference import serving
from worker.jobs import execution, label_job, watchdog
from worker.jobs.rq_worker import HasSuccessorError
from worker.jobs.watchdog import Watchdog

PATIENCE_S = 20
OPENED = b'["opened", 64, 48, 25.0, 100, 4.0]\n'


class Skipping(DecodingProcess):
    """Decodes endlessly before the first wanted frame."""

    def fork(self, given: Input | Sound, limits: DecodeLimits, descriptors: Sequence[int]) -> int:
        child = socket.socket(fileno=os.dup(descriptors[0]))

        def skip() -> None:
            with child, suppress(OSError):
                child.sendall(OPENED)
                while True:
                    child.sendall(b'["beat", 7]\n')
                    time.sleep(0.01)

        threading.Thread(target=skip, daemon=True).start()
        return 1

    def end(self, pid: int) -> int:
        return 0


@contextmanager
def labelling(rig: Rig) -> Iterator[threading.Thread]:
    """The job, labelled on a thread."""

    def run() -> None:
        with suppress(HasSuccessorError):
            label_job.label_job(rig.service, JOB)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield thread
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), "it never ended"


@pytest.fixture
def skipping(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """The job's decoder passes over frames, none of which is wanted."""
    opened: list[IsolatedSource] = []

    def source(path: Path, reading: str, options: Any, limits: DecodeLimits, *beat: Any) -> IsolatedSource:
        given = Input(str(path), reading, 25, Sampling(start_s=3600))
        opened.append(IsolatedSource(given, limits, Skipping(), *beat))
        return opened[0]

    def labels() -> Generator[Any, None, None]:
        yield from opened[0].frames()

    monkeypatch.setattr(execution, "CHECK_S", 0)
    monkeypatch.setattr(serving, "contract_frames", lambda frames, *_: frames)
    rig.source, rig.labels = source, labels
    return rig


def test_a_cancel_is_seen_before_the_first_frame(skipping: Rig) -> None:
    """While the decoder is on its way to `start_s`, there are no frames at which to look."""
    with labelling(skipping):
        until(lambda: skipping.job().input.width)
        skipping.connection.hset(keys.job(JOB), "cancel_requested", "true")
    assert skipping.job().state == "canceled"
    assert skipping.store.job_ids() == []


def test_a_stop_is_seen_before_the_first_frame(skipping: Rig) -> None:
    """The job is handed back, untried."""
    with labelling(skipping):
        until(lambda: skipping.job().input.width)
        skipping.stopping.set()
    assert (skipping.job().state, skipping.job().attempts) == ("queued", 0)


class Ends:
    """Instead of the process, a list of statuses."""

    def __init__(self, rig: Rig, patch: pytest.MonkeyPatch, stall_s: float) -> None:
        self.statuses: list[int] = []
        patch.setattr(watchdog, "os", SimpleNamespace(_exit=self.statuses.append))
        rig.service.watchdog = Watchdog(stall_s, lambda: False)


def test_a_model_that_is_loaded_for_ever_ends_the_process(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that woke an idle worker waits for its model under the watchdog, too."""
    ends, loaded = Ends(rig, monkeypatch, 0.2), threading.Event()
    rig.load = lambda: until(loaded.is_set)
    with labelling(rig):
        until(lambda: ends.statuses)
        loaded.set()


def in_memory(rig: Rig, monkeypatch: pytest.MonkeyPatch, get_file: Callable[..., object]) -> None:
    """Have the input in storage that is no folder, from which it is fetched so."""
    store = UploadStore(f"memory://{uuid.uuid4().hex}")
    writer = store.create(JOB)
    writer.write(b"x")
    writer.commit()
    rig.store = rig.service.store = store
    monkeypatch.setattr(store._fs, "get_file", get_file)


def test_an_input_that_is_fetched_for_ever_ends_the_process(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Object storage that never answers."""
    ends, fetched = Ends(rig, monkeypatch, 0.2), threading.Event()
    in_memory(rig, monkeypatch, lambda *_, **__: until(fetched.is_set))
    with labelling(rig):
        until(lambda: ends.statuses)
        fetched.set()


def test_an_input_that_is_fetched_slowly_gets_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are progress, however long all of them take."""
    ends = Ends(rig, monkeypatch, 1)

    def get_file(source: str, target: str, callback: Any) -> None:
        for _ in range(40):
            time.sleep(0.05)
            callback.relative_update(1)
        Path(target).write_bytes(b"x")

    in_memory(rig, monkeypatch, get_file)
    with labelling(rig):
        pass
    assert rig.job().state == "succeeded"
    assert ends.statuses == []


def no_answer(*_: Any, **__: Any) -> None:
    raise TimeoutError("no answer")


@pytest.mark.parametrize("storage", ["folder", "objects"])
def test_an_input_that_cannot_be_read_is_tried_again(rig: Rig, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage that fails for a while costs a try, after a pause; at the third the job has failed."""
    if storage == "folder":
        path = Path(rig.store._path(JOB, "input"))
        path.unlink()
        path.symlink_to(path)  # ELOOP, an error of the file system's
    else:
        in_memory(rig, monkeypatch, no_answer)
    pauses: list[float] = []
    monkeypatch.setattr(rig.stopping, "wait", pauses.append)
    for attempt in (1, 2):
        with pytest.raises(HasSuccessorError):
            label_job.label_job(rig.service, JOB)
        assert rig.connection.lrange(keys.rq_queue("mien-default"), 0, -1) == [JOB.encode()]
        assert (rig.job().state, rig.job().attempts, rig.job().error) == ("queued", attempt, None)
        assert rig.store.job_ids() == [JOB]
    label_job.label_job(rig.service, JOB)
    job = rig.job()
    assert job.error is not None
    assert (job.state, job.attempts, job.error.code) == ("failed", 3, "internal")
    assert rig.store.job_ids() == []
    assert pauses == [label_job.STORE_PAUSE_S, 2 * label_job.STORE_PAUSE_S]
