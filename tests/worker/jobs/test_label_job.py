"""A job inside a worker that stops, or that cannot load its model again: it is handed back as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from rq import Retry

from app.contract import keys
from app.contract.jobs import JobError
from app.contract.renditions import VIDEO
from tests.worker.jobs.rig import JOB, Rig
from worker.core.devices import DeviceLostError
from worker.core.records import LeftOut
from worker.decode import (
    DecoderHungError,
    DecoderKilledError,
    DecoderLostError,
    DecodingProcessLostError,
    InputUnreadableError,
    LimitExceededError,
)
from worker.ensemble.engine import EngineStoppedError
from worker.ensemble.fusion import NoPriorError
from worker.inference import serving
from worker.inference.pipeline import UnknownMemberError
from worker.jobs import label_job, render_job
from worker.jobs.rq_worker import HasSuccessorError


def raising(error: Exception) -> Callable[[], None]:
    def load() -> None:
        raise error

    return load


def test_a_job_that_comes_while_the_worker_stops(rig: Rig) -> None:
    """It is handed back before any work, even before a model is loaded."""
    rig.stopping.set()
    rig.load = raising(AssertionError("it is not to be loaded"))
    rig.check_handed_back()
    assert rig.stops == 0


@pytest.mark.parametrize(
    "fields",
    [{"options": '{"clairvoyance": true}'}, {"options": '{"faces": "in a way to come"}'}, {"media": "hologram"}],
    ids=["option", "value", "media"],
)
def test_a_job_of_a_newer_release_is_left_to_its_workers(
    rig: Rig, fields: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits behind the others with its input, without charge; it is not claimed again without a pause."""
    pauses: list[float | None] = []
    monkeypatch.setattr(rig.stopping, "wait", pauses.append)
    rig.connection.hset(keys.job(JOB), mapping=cast(Any, fields))
    queue = keys.rq_queue("mien-default")
    for _ in range(2):
        rig.connection.delete(queue)
        rig.connection.rpush(queue, "another")
        with pytest.raises(HasSuccessorError):
            label_job.label_job(rig.service, JOB)
        assert rig.connection.lrange(queue, 0, -1) == [b"another", JOB.encode()]
        found = rig.connection.hmget(keys.job(JOB), "state", "attempts", "execution", "error", "started_at")
        assert found == [b"queued", b"0", b"", None, None]
        assert rig.store.job_ids() == [JOB]
    assert len(pauses) == 1
    assert pauses[0] is not None
    assert 0 < pauses[0] <= label_job.LEAVE_S


def test_a_job_whose_engine_is_stopped(rig: Rig) -> None:
    """Jobs that wait in the engine when the worker stops do not fail."""

    def labels() -> Generator[Any, None, None]:
        raise EngineStoppedError
        yield

    rig.labels = labels
    rig.check_handed_back()


def test_a_job_that_does_not_end_is_handed_back_over_its_head(rig: Rig) -> None:
    """A job that hangs at the worker's end is handed to others; if it continues, its execution is lost."""
    begun, go_on = threading.Event(), threading.Event()
    ends: list[BaseException] = []

    def labels() -> Generator[Any, None, None]:
        begun.set()
        assert go_on.wait(60)
        yield from ()

    def run() -> None:
        try:
            label_job.label_job(rig.service, JOB)
        except HasSuccessorError as error:
            ends.append(error)

    rig.labels = labels
    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(60)
    label_job.give_up(rig.service)
    assert rig.connection.lrange(keys.rq_queue("mien-default"), 0, -1) == [JOB.encode()]
    assert (rig.job().state, rig.job().attempts, rig.job().execution) == ("queued", 0, "")
    go_on.set()
    thread.join(60)
    assert len(ends) == 1
    assert rig.job().state == "queued"
    assert rig.store.job_ids() == [JOB]


def test_a_model_that_cannot_be_loaded_again_ends_the_worker(rig: Rig) -> None:
    """The job restarts elsewhere, and the worker ends with the reason."""
    fault = ValueError("the bundle is gone")
    rig.load = raising(fault)
    rig.check_handed_back()
    assert rig.stops == 1
    assert rig.service.fault is fault


def test_a_device_that_computes_nothing_any_more_ends_the_worker(rig: Rig) -> None:
    """The job is charged an attempt and restarts elsewhere; this process takes no other job."""

    def labels() -> Generator[Any, None, None]:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nadvice")
        yield

    rig.labels = labels
    for _ in range(2):
        with pytest.raises(HasSuccessorError):
            label_job.label_job(rig.service, JOB)
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
            label_job.label_job(rig.service, JOB)
    rig.service.fault = None
    label_job.label_job(rig.service, JOB)
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
        (InputUnreadableError("the input could not be read"), "internal"),
    ],
    ids=["hangs", "killed", "process", "unreadable"],
)
def test_a_job_whose_decoder_is_lost_again_and_again(
    rig: Rig, lost: DecoderLostError, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is attempted three times, each charged; then it fails with the reason, and its input is deleted."""
    monkeypatch.setattr(label_job, "STORE_PAUSE_S", 0)

    def labels() -> Generator[Any, None, None]:
        raise lost
        yield

    rig.labels = labels
    for attempt in (1, 2):
        with pytest.raises(HasSuccessorError):
            label_job.label_job(rig.service, JOB)
        assert rig.connection.lrange(keys.rq_queue("mien-default"), 0, -1) == [JOB.encode()]
        assert (rig.job().state, rig.job().attempts, rig.job().error) == ("queued", attempt, None)
        assert rig.store.job_ids() == [JOB]
    label_job.label_job(rig.service, JOB)
    job = rig.job()
    assert job.error is not None
    assert (job.state, job.attempts, job.error.code) == ("failed", 3, code)
    assert rig.store.job_ids() == []


def test_a_job_that_takes_too_long_fails(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no signal to end it: it looks at its own clock."""
    monkeypatch.setattr(label_job, "JOB_TIMEOUT_S", -1)
    monkeypatch.setattr(serving, "contract_frames", lambda frames, *_: frames)
    rig.labels = lambda: (frame for frame in [SimpleNamespace(frame=SimpleNamespace(left_out=LeftOut()))])
    label_job.label_job(rig.service, JOB)
    job = rig.job()
    assert job.state == "failed"
    assert job.error is not None
    assert job.error.code == "limit_exceeded"
    assert rig.registration.info.jobs_done == 1


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
    assert isinstance(render_job.render_job(VIDEO, JOB), Retry)
    assert drawn == [0]
    assert rig.connection.hget(VIDEO.key(JOB), "state") == b"queued"


def test_drawing_that_takes_too_long_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise, a clock instead of a signal."""
    monkeypatch.setattr(render_job, "RENDER_TIMEOUT_S", -1)
    with pytest.raises(LimitExceededError, match="the limit of this service"):
        list(render_job._unless_stopped(cast(Any, iter(range(10)))))


@pytest.mark.parametrize("error", [UnknownMemberError("no member svm"), NoPriorError("prior: the bundle has none")])
def test_an_option_that_the_bundle_cannot_follow_fails_the_job_and_says_so(rig: Rig, error: ValueError) -> None:
    """The front end could not know it where no worker had served the bundle before."""

    def unknown() -> Generator[Any, None, None]:
        raise error
        yield

    rig.labels = unknown
    label_job.label_job(rig.service, JOB)
    job = rig.job()
    assert job.state == "failed"
    assert job.error == JobError(code="invalid_option", detail=str(error))
    assert rig.store.job_ids() == []
