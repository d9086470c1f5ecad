"""The model is kept while in use, released when idle, and loaded again for the next job."""

from __future__ import annotations

import threading
import time
import weakref
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tests.waiting import until
from worker.core.records import CroppedFace, CroppedFrame
from worker.ensemble.stream import ClipStream
from worker.inference import serving
from worker.inference.serving import Serving
from worker.jobs.idle_unload import IDLE, IdleUnloader, NotTheSameError
from worker.settings import WorkerSettings

RELEASE_S = 0.05


class Engine:
    """What an unloader asks of an engine."""

    def __init__(self) -> None:
        self.closed = self.stopped = False

    def close(self) -> None:
        self.closed = True

    def stop(self) -> None:
        self.stopped = True


class Loads:
    """Loads a new object each time; records loads and messages."""

    def __init__(self) -> None:
        self.engines: list[Engine] = []
        self.said: list[str | None] = []
        self.manifest = "the bundle"

    def __call__(self) -> Serving:
        self.engines.append(Engine())
        pipeline = SimpleNamespace(engine=self.engines[-1])
        return cast(Serving, SimpleNamespace(manifest=self.manifest, pipeline=pipeline))

    def unloader(self, release_s: float) -> IdleUnloader:
        return IdleUnloader(self, release_s, self.said.append)


def use(unloader: IdleUnloader) -> Any:
    with unloader.using() as loaded:
        return loaded.pipeline.engine


def test_an_idle_worker_gives_its_memory_back_and_labels_the_same_afterwards() -> None:
    """Neither engine nor runtime is left after a while without a job; loaded again, the labels are equal."""
    said: list[str | None] = []
    unloader = IdleUnloader(
        lambda: serving.load(WorkerSettings(device="cpu", precision="fp32")), RELEASE_S, said.append
    )

    def label() -> tuple[np.ndarray, list[weakref.ref[Any]]]:
        with unloader.using() as loaded:
            engine = loaded.pipeline.engine
            crops = np.random.default_rng(0).integers(0, 256, (20, *engine.crop_shape), np.uint8)
            faces = [CroppedFace(0, (0, 0, 1, 1), None, crop) for crop in crops]
            frames = [CroppedFrame(i, i / 25, (face,), ()) for i, face in enumerate(faces)]
            fused = [out.fused for out in ClipStream(engine, engine.member_names).run(frames)]
            return np.stack(fused), [weakref.ref(engine), weakref.ref(engine._runtime)]

    before, references = label()
    until(lambda: said == [IDLE])
    assert [reference() for reference in references] == [None] * len(references)
    after, _ = label()
    np.testing.assert_array_equal(after, before)
    assert said[:2] == [IDLE, None]


def test_nothing_is_given_back_while_a_job_runs() -> None:
    """The last of several jobs to end starts the time."""
    loads = Loads()
    unloader = loads.unloader(RELEASE_S)
    with unloader.using():
        use(unloader)
        time.sleep(5 * RELEASE_S)
        unloader._release()  # as a timer that was cancelled too late
        assert not loads.engines[0].closed
    until(lambda: loads.said == [IDLE])
    assert loads.engines[0].closed


def test_without_a_time_nothing_is_given_back() -> None:
    """Zero means never."""
    loads = Loads()
    unloader = loads.unloader(0)
    use(unloader)
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    assert use(unloader) is loads.engines[0]


def test_the_next_job_loads_again_and_is_kept() -> None:
    """Jobs that come together after a pause wait for one load, and share what was loaded."""
    loads = Loads()
    unloader = loads.unloader(RELEASE_S)
    use(unloader)
    until(lambda: loads.said == [IDLE])
    with unloader.using() as first, unloader.using() as second:
        assert first is second
    assert len(loads.engines) == 2
    assert loads.said == [IDLE, None]


def test_a_bundle_that_was_replaced_meanwhile_is_not_served() -> None:
    """The published record would be wrong: the job is refused, and nothing is kept."""
    loads = Loads()
    unloader = loads.unloader(RELEASE_S)
    use(unloader)
    until(lambda: loads.said == [IDLE])
    loads.manifest = "another"
    with pytest.raises(NotTheSameError):
        use(unloader)
    assert loads.engines[1].closed
    loads.manifest = "the bundle"
    assert use(unloader) is loads.engines[2]


def test_stopping_reaches_the_engine_also_while_it_is_loaded_again() -> None:
    """A stop does not wait for a load in progress."""
    loads = Loads()
    unloader = loads.unloader(RELEASE_S)
    use(unloader)
    until(lambda: loads.said == [IDLE])
    unloader.stop()
    assert use(unloader).stopped


def test_a_stopped_worker_gives_nothing_back() -> None:
    """The process ends anyway, and Python must not end below a thread that is inside torch."""
    loads = Loads()
    unloader = loads.unloader(RELEASE_S)
    use(unloader)
    unloader.stop()
    use(unloader)
    assert loads.engines[0].stopped
    time.sleep(5 * RELEASE_S)
    assert not loads.engines[0].closed
