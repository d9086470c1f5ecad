"""A service around a pipeline that does what a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis

from app.contract import keys
from app.contract.jobs import InputInfo, JobRecord, ModelRef, utc_now
from app.contract.options import JobOptions
from app.contract.uploads import UploadStore
from app.contract.workers import WorkerInfo
from worker.core.records import VideoInfo
from worker.ensemble.engine import EngineStats
from worker.jobs import label_job
from worker.jobs.idle_unload import IdleUnloader
from worker.jobs.registration import Registration
from worker.jobs.rq_worker import HasSuccessorError
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

    def __init__(self, connection: redis.Redis, folder: Path) -> None:
        self.connection = connection
        self.store = UploadStore(str(folder))
        self.stops = 0
        self.stopping = threading.Event()
        self.labels: Callable[[], Generator[Any, None, None]] = no_frames
        self.source: Callable[..., Any] = lambda *_: Source()
        self.load: Callable[[], object] = lambda: None
        self._record()
        info = WorkerInfo(name="w", state="ready", bundle="default", queue="mien-default", started_at=utc_now())
        self.registration = Registration(connection, info)
        self.service = label_job.Service(
            WorkerSettings(),
            connection,
            self.store,
            cast(IdleUnloader, self),
            self.registration,
            Watchdog(0, lambda: False),
            self.stopping,
            self._stop,
        )

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
        """As an unloader's."""
        self.load()
        engine = SimpleNamespace(member_names=("cnn",), take_stats=EngineStats, halvings=0)
        pipeline = SimpleNamespace(
            engine=engine,
            detector_name="cascade",
            members=lambda _: ("cnn",),
            prior=lambda _: None,
            label=lambda *_: self.labels(),
        )
        manifest = SimpleNamespace(name="default", version="1", labels=("a", "b"))
        yield SimpleNamespace(manifest=manifest, pipeline=pipeline, device="cpu", open_source=self.source)

    def job(self) -> JobRecord:
        """The form stored in Redis."""
        return JobRecord.from_hash(cast(dict[bytes, bytes], self.connection.hgetall(keys.job(JOB))))

    def check_handed_back(self) -> None:
        """The job was run and is now as if it had not been."""
        with pytest.raises(HasSuccessorError):
            label_job.label_job(self.service, JOB)
        assert self.connection.lrange(keys.rq_queue("mien-default"), 0, -1) == [JOB.encode()]
        job = self.job()
        assert (job.state, job.attempts, job.execution) == ("queued", 0, "")
        assert self.store.job_ids() == [JOB]
        assert (self.registration.info.jobs_running, self.registration.info.jobs_done) == (0, 0)
