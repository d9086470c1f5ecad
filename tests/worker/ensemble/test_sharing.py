"""Several clips at once through one engine: results do not change, and no clip waits long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.core.records import CroppedFace, CroppedFrame, LabelledFrame
from worker.ensemble import stream
from worker.ensemble.engine import Engine
from worker.ensemble.runtime import Crops, States
from worker.ensemble.stream import STEPS_IN_FLIGHT, ClipStream

SHAPE = (16, 16, 1)
TOLERANCE = 1e-5
Clip = list[CroppedFrame]


def label(engine: Engine, clip: Clip) -> list[LabelledFrame]:
    return list(ClipStream(engine, engine.member_names).run(clip))


@st.composite
def clips(draw: st.DrawFn) -> Clip:
    """Frames with zero to three faces each, of tracks that may pause and end."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frames = draw(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=45))
    clip = []
    newest = 0
    for i, (faces, cut) in enumerate(frames):
        ended = tuple(range(newest, newest + 3)) if cut else ()
        newest += 3 if cut else 0
        crops = rng.integers(0, 256, (faces, *SHAPE), np.uint8)
        found = tuple(CroppedFace(newest + k, (0, 0, 1, 1), None, crop) for k, crop in enumerate(crops))
        clip.append(CroppedFrame(i, i / 25, found, ended))
    return clip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jobs=st.lists(clips(), min_size=2, max_size=5), batch=st.sampled_from([1, 5, 32]))
def test_each_clip_gets_what_it_gets_alone(engine: Engine, jobs: list[Clip], batch: int) -> None:
    """A clip's records do not depend on concurrent clips."""
    engine.batch = batch
    alone = [label(engine, clip) for clip in jobs]
    with ThreadPoolExecutor(len(jobs)) as threads:
        together = list(threads.map(lambda clip: label(engine, clip), jobs))
    for expected, found in zip(alone, together, strict=True):
        assert [out.frame for out in found] == [out.frame for out in expected]
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_allclose(b.members, a.members, atol=TOLERANCE)
            np.testing.assert_allclose(b.fused, a.fused, atol=TOLERANCE)


class Stepwise:
    """Has an engine run one batch for every `release`, and notes which clips were in it."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self._encode = engine._runtime.encode
        self.turns = threading.Semaphore(0)
        self.first_pixels: list[set[int]] = []
        monkeypatch.setattr(engine._runtime, "encode", self.encode)

    def encode(self, crops: Crops) -> States[Any]:
        assert self.turns.acquire(timeout=20)
        self.first_pixels.append({int(crop[0, 0, 0]) for crop in crops})
        return self._encode(crops)


def test_an_image_passes_long_clips(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long clips are, and however many: an image waits for a few steps of each, which they had sent before."""
    monkeypatch.setattr(engine, "step_frames", engine.batch)  # each step is a batch of its own
    monkeypatch.setattr(stream, "FIRST_FRAMES", engine.batch)
    stepwise = Stepwise(engine, monkeypatch)
    longs, image = (1, 2, 3), 9

    def frames(value: int, count: int) -> Iterator[CroppedFrame]:
        for i in range(count):
            yield CroppedFrame(i, i / 25, (CroppedFace(0, (0, 0, 1, 1), None, np.full(SHAPE, value, np.uint8)),), ())

    def run(value: int, count: int) -> int:
        return len(list(ClipStream(engine, engine.member_names).run(frames(value, count))))

    length = 20 * engine.batch
    with ThreadPoolExecutor(len(longs) + 1) as threads:
        running = [threads.submit(run, value, length) for value in longs]
        deadline = time.monotonic() + 20
        while engine._steps.qsize() < len(longs) * (STEPS_IN_FLIGHT + 1) - 1:  # as many as they may; one is held
            assert time.monotonic() < deadline
            time.sleep(0.01)
        short = threads.submit(run, image, 1)
        while engine._steps.qsize() < len(longs) * (STEPS_IN_FLIGHT + 1):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        stepwise.turns.release(10_000)
        assert short.result(20) == 1
        assert [future.result(20) for future in running] == [length] * len(longs)
    before = next(i for i, pixels in enumerate(stepwise.first_pixels) if image in pixels)
    assert before <= len(longs) * (STEPS_IN_FLIGHT + 1)
    assert len(stepwise.first_pixels) > 3 * before
