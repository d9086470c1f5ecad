"""A job inside a worker that stops, or that cannot load its model again: it is handed back as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
import torch
from rq import Retry

from app.contract import keys
from app.contract.jobs import InputInfo, JobRecord, ModelRef, utc_now
from app.contract.options import JobOptions
from app.contract.uploads import UploadStore
from app.contract.workers import WorkerInfo
from worker.core.devices import DeviceLostError
from worker.core.records import VideoInfo
from worker.decode import (
    DecoderHungError,
    DecoderKilledError,
    DecoderLostError,
    DecodingProcessLostError,
    LimitExceededError,
)
from worker.ensemble.engine import EngineStats, EngineStoppedError
from worker.inference import serving
from worker.jobs import label_job, render_job
from worker.jobs.idle_unload import Keeper
from worker.jobs.registration import Presence
from worker.jobs.rq_hooks import HasSuccessorError
from worker.jobs.watchdog import Watchdog
from worker.settings import WorkerSettings

JOB = "0123456789abcdef" * 2


class Source:
    """An input that is open."""

    info = VideoInfo(64, 48, 25.0, 100, 4.0)
    decoded = 100
    warnings: list[str] = []  # noqa: RUF012  # never changed

    def close(self) -> None:
        pass


def no_frames() -> Generator[Any, None, None]:
    yield from ()


class Rig:
    """A service around a pipeline that does what the test says, with one job that waits in a real Redis."""

    def __init__(self, connection: redis.Redis, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.connection = connection
        self.store = UploadStore(str(folder))
        self.stops = 0
        self.stopping = threading.Event()
        self.labels: Callable[[], Generator[Any, None, None]] = no_frames
        self.fault: Exception | None = None
        self._record()
        info = WorkerInfo(name="w", state="ready", bundle="default", queue="mien-default", started_at=utc_now())
        self.presence = Presence(connection, info)
        self.service = label_job.Service(
            WorkerSettings(),
            connection,
            self.store,
            cast(Keeper, self),
            self.presence,
            Watchdog(0, lambda: False),
            self.stopping,
            self._stop,
        )
        patch.setattr(label_job, "_service", self.service)

    def _record(self) -> None:
        writer = self.store.create(JOB)
        writer.write(b"x")
        writer.commit()
        record = JobRecord(
            id=JOB,
            queue="mien-default",
            media="mp4",
            created_at=utc_now(),
            expires_at=utc_now(),
            options=JobOptions(),
            model=ModelRef(name="default"),
            input=InputInfo(kind="video", bytes=1, sha256="0" * 64),
        )
        self.connection.hset(keys.job(JOB), mapping=cast(Any, record.to_hash()))

    def _stop(self) -> None:
        self.stops += 1

    @contextmanager
    def using(self) -> Iterator[Any]:
        """As a keeper's."""
        if self.fault is not None:
            raise self.fault
        engine = SimpleNamespace(member_names=("cnn",), take_stats=EngineStats, halvings=0)
        pipeline = SimpleNamespace(
            engine=engine, detector_name="cascade", members=lambda _: ("cnn",), label=lambda *_: self.labels()
        )
        manifest = SimpleNamespace(name="default", version="1", labels=("a", "b"))
        yield SimpleNamespace(manifest=manifest, pipeline=pipeline, device="cpu", open_source=lambda *_: Source())

    def job(self) -> JobRecord:
        """As it lies in Redis."""
        return JobRecord.from_hash(cast(dict[bytes, bytes], self.connection.hgetall(keys.job(JOB))))

    def check_handed_back(self) -> None:
        """The job was run and is now as if it had not been."""
        with pytest.raises(HasSuccessorError):
            label_job.label_job(JOB)
        assert self.connection.lrange(keys.rq_queue("mien-default"), 0, -1) == [JOB.encode()]
        job = self.job()
        assert (job.state, job.attempts, job.execution) == ("queued", 0, "")
        assert self.store.job_ids() == [JOB]
        assert (self.presence.info.jobs_running, self.presence.info.jobs_done) == (0, 0)


@pytest.fixture
def rig(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """See `Rig`."""
    with redis.Redis.from_url(redis_url) as connection:
        rig = Rig(connection, tmp_path, monkeypatch)
        yield rig
        rig.presence.close()


def test_a_job_that_comes_while_the_worker_stops(rig: Rig) -> None:
    """It is handed back before anything is done for it, were it only to load a model."""
    rig.stopping.set()
    rig.fault = AssertionError("it is not to be loaded")
    rig.check_handed_back()
    assert rig.stops == 0


@pytest.mark.parametrize(
    "fields",
    [{"options": '{"people": true}'}, {"options": '{"faces": "in a way to come"}'}, {"media": "hologram"}],
    ids=["option", "value", "media"],
)
def test_a_job_of_a_newer_release_is_left_to_its_workers(
    rig: Rig, fields: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits behind the others, with its input, untried; it is not taken again and again without a pause."""
    pauses: list[float | None] = []
    monkeypatch.setattr(rig.stopping, "wait", pauses.append)
    rig.connection.hset(keys.job(JOB), mapping=cast(Any, fields))
    queue = keys.rq_queue("mien-default")
    for _ in range(2):
        rig.connection.delete(queue)
        rig.connection.rpush(queue, "another")
        with pytest.raises(HasSuccessorError):
            label_job.label_job(JOB)
        assert rig.connection.lrange(queue, 0, -1) == [b"another", JOB.encode()]
        found = rig.connection.hmget(keys.job(JOB), "state", "attempts", "execution", "error", "started_at")
        assert found == [b"queued", b"0", b"", None, None]
        assert rig.store.job_ids() == [JOB]
    assert len(pauses) == 1
    assert pauses[0] is not None
    assert 0 < pauses[0] <= label_job.LEAVE_S


def test_a_job_whose_engine_is_stopped(rig: Rig) -> None:
    """What waits in the engine when the worker stops does not fail."""

    def labels() -> Generator[Any, None, None]:
        raise EngineStoppedError
        yield

    rig.labels = labels
    rig.check_handed_back()


def test_a_job_that_does_not_end_is_handed_back_over_its_head(rig: Rig) -> None:
    """What hangs when the worker has to end is for others from then on; should it go on after all, it is lost."""
    begun, go_on = threading.Event(), threading.Event()
    ends: list[BaseException] = []

    def labels() -> Generator[Any, None, None]:
        begun.set()
        assert go_on.wait(60)
        yield from ()

    def run() -> None:
        try:
            label_job.label_job(JOB)
        except HasSuccessorError as error:
            ends.append(error)

    rig.labels = labels
    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(60)
    label_job.give_up()
    assert rig.connection.lrange(keys.rq_queue("mien-default"), 0, -1) == [JOB.encode()]
    assert (rig.job().state, rig.job().attempts, rig.job().execution) == ("queued", 0, "")
    go_on.set()
    thread.join(60)
    assert len(ends) == 1
    assert rig.job().state == "queued"
    assert rig.store.job_ids() == [JOB]


def test_a_model_that_cannot_be_loaded_again_ends_the_worker(rig: Rig) -> None:
    """The job goes on elsewhere, and the worker ends with the reason."""
    rig.fault = ValueError("the bundle is gone")
    rig.check_handed_back()
    assert rig.stops == 1
    assert rig.service.fault is rig.fault


def test_a_device_that_computes_nothing_any_more_ends_the_worker(rig: Rig) -> None:
    """The job counts a try and goes on elsewhere; no other one is taken by this process, which could only fail it."""

    def labels() -> Generator[Any, None, None]:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nadvice")
        yield

    rig.labels = labels
    for _ in range(2):
        with pytest.raises(HasSuccessorError):
            label_job.label_job(JOB)
        assert rig.connection.lrange(keys.rq_queue("mien-default"), 0, -1) == [JOB.encode()]
        assert (rig.job().state, rig.job().attempts, rig.job().error) == ("queued", 1, None)
        rig.connection.delete(keys.rq_queue("mien-default"))
    assert rig.stops == 1
    assert isinstance(rig.service.fault, DeviceLostError)
    assert (
        str(rig.service.fault) == "cpu computes nothing any more: CUDA error: an illegal memory access was encountered"
    )


def test_a_job_that_breaks_every_device_fails_at_last(rig: Rig) -> None:
    """After three workers it is the job's fault."""

    def labels() -> Generator[Any, None, None]:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")
        yield

    rig.labels = labels
    for _ in range(2):
        rig.service.fault = None  # another worker
        with pytest.raises(HasSuccessorError):
            label_job.label_job(JOB)
    rig.service.fault = None
    label_job.label_job(JOB)
    job = rig.job()
    assert job.error is not None
    assert (job.state, job.attempts, job.error.code) == ("failed", 3, "internal")
    assert isinstance(rig.service.fault, DeviceLostError)


@pytest.mark.parametrize(
    ("lost", "code"),
    [
        (DecoderHungError("decoding did not get on for 30 s"), "limit_exceeded"),
        (DecoderKilledError("the decoder was ended by the system"), "out_of_memory"),
        (DecodingProcessLostError("the decoding process has ended"), "internal"),
    ],
    ids=["hangs", "killed", "process"],
)
def test_a_job_whose_decoder_is_lost_again_and_again(rig: Rig, lost: DecoderLostError, code: str) -> None:
    """It is tried three times, each of which counts; then it has failed for that reason, and its input goes."""

    def labels() -> Generator[Any, None, None]:
        raise lost
        yield

    rig.labels = labels
    for attempt in (1, 2):
        with pytest.raises(HasSuccessorError):
            label_job.label_job(JOB)
        assert rig.connection.lrange(keys.rq_queue("mien-default"), 0, -1) == [JOB.encode()]
        assert (rig.job().state, rig.job().attempts, rig.job().error) == ("queued", attempt, None)
        assert rig.store.job_ids() == [JOB]
    label_job.label_job(JOB)
    job = rig.job()
    assert job.error is not None
    assert (job.state, job.attempts, job.error.code) == ("failed", 3, code)
    assert rig.store.job_ids() == []


def test_a_job_that_takes_too_long_fails(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no signal to end it: it looks at its own clock."""
    monkeypatch.setattr(label_job, "JOB_TIMEOUT_S", -1)
    monkeypatch.setattr(serving, "contract_frames", lambda frames: frames)
    rig.labels = lambda: (frame for frame in [None])
    label_job.label_job(JOB)
    job = rig.job()
    assert job.state == "failed"
    assert job.error is not None
    assert job.error.code == "limit_exceeded"
    assert rig.presence.info.jobs_done == 1


def test_a_video_that_is_being_drawn_is_handed_back(rig: Rig, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The renderer stops between two frames, and the video waits for another renderer."""
    drawn: list[Any] = []

    def draw(*_: Any) -> None:
        for number in render_job._unless_stopped(cast(Any, iter(range(10)))):
            drawn.append(number)
            stopping.set()

    stopping = threading.Event()
    monkeypatch.setenv("MIEN_REDIS_URL", redis_url)
    monkeypatch.setattr(render_job, "stopping", stopping)
    monkeypatch.setattr(render_job, "render", draw)
    assert isinstance(render_job.render_job(JOB), Retry)
    assert drawn == [0]
    assert rig.connection.hget(keys.render(JOB), "state") == b"queued"


def test_drawing_that_takes_too_long_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise, a clock instead of a signal."""
    monkeypatch.setattr(render_job, "RENDER_TIMEOUT_S", -1)
    with pytest.raises(LimitExceededError, match="the limit of this service"):
        list(render_job._unless_stopped(cast(Any, iter(range(10)))))
