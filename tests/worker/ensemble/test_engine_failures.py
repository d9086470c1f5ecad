"""The engine when something goes wrong: a full device gets smaller batches, an error fails its steps and no others."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tests.worker.ensemble.steps import NO_ROWS, Watched, check, clip, step_of
from worker.core.devices import OutOfDeviceMemoryError
from worker.ensemble import engine as engine_module
from worker.ensemble.engine import Engine, EngineStoppedError, Step
from worker.ensemble.networks import Ensemble


@pytest.mark.parametrize("room", [1, 3, 10])
def test_a_full_device_gets_smaller_batches(engine: Engine, watched: Watched, ensemble: Ensemble, room: int) -> None:
    """Out of memory halves the batch until it fits; the results are the same, and no crop is lost or repeated."""
    watched.room = room
    step = step_of(clip(0, 32))
    engine.submit(step)
    check(ensemble, step)
    assert sum(watched.sizes) == 32
    assert room / 2 < max(watched.sizes) <= room
    assert engine.halvings == {1: 5, 3: 4, 10: 2}[room]


def test_batches_grow_again_once_there_is_room(
    engine: Engine, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory may have been freed by others: after batches that fitted, the next larger size is tried."""
    monkeypatch.setattr(engine_module, "GROW_AFTER", 4)
    watched.room = 3
    for room in (3, 1_000_000):
        watched.room = room
        watched.sizes.clear()
        for seed in range(8):
            step = step_of(clip(seed, engine.batch))
            engine.submit(step)
            step.result.result(20)
    assert watched.sizes[-1] == engine.batch
    assert engine.halvings


def test_no_room_for_one_crop_fails_the_step_alone(engine: Engine, watched: Watched, ensemble: Ensemble) -> None:
    """When not even one crop fits, every step of the batch learns it; the engine lives on."""
    steps = [step_of(clip(seed, 4)) for seed in range(2)]
    with watched.held(engine):
        watched.room = 0
        for step in steps:
            engine.submit(step)
    for step in steps:
        with pytest.raises(OutOfDeviceMemoryError, match="one face"):
            step.result.result(20)
    watched.room = 100
    later = step_of(clip(9, 4))
    engine.submit(later)
    check(ensemble, later)


def test_a_wrong_step_fails_and_the_next_one_runs(engine: Engine, ensemble: Ensemble) -> None:
    """An error of a step, whatever it is, is that step's result."""
    wrong = Step(clip(0, 2), np.full((1, 9), 99, np.int64), NO_ROWS, None)
    engine.submit(wrong)
    with pytest.raises(IndexError):
        wrong.result.result(20)
    later = step_of(clip(1, 3))
    engine.submit(later)
    check(ensemble, later)


def test_a_wrong_step_does_not_fail_those_that_share_its_batch(
    engine: Engine, watched: Watched, ensemble: Ensemble
) -> None:
    """An error in one clip's rows does not affect other clips."""
    good, wrong = step_of(clip(0, 4)), Step(clip(1, 2), np.full((1, 9), 99, np.int64), NO_ROWS, None)
    with watched.held(engine):
        engine.submit(wrong)
        engine.submit(good)
    with pytest.raises(IndexError):
        wrong.result.result(20)
    check(ensemble, good)
    assert watched.sizes == [1, 6]


@pytest.mark.parametrize("rows", ["windows", "keep"])
def test_rows_are_checked_before_they_reach_the_device(engine: Engine, rows: str) -> None:
    """A GPU that is asked for a row that is not there computes nothing any more."""
    step = Step(clip(0, 3), np.zeros((1, 9), np.int64), np.zeros(1, np.int64), None)
    getattr(step, rows)[..., -1] = 3
    engine.submit(step)
    with pytest.raises(IndexError, match="beyond the step's 3 rows"):
        step.result.result(20)


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_clips_next_steps_fail_with_the_one_before(
    engine: Engine, watched: Watched, ensemble: Ensemble, ahead: int
) -> None:
    """Nothing is computed from rows that a failed step never kept."""
    engine._runtime.ahead = ahead
    steps: list[Step] = []
    for seed in range(3):
        before = steps[-1] if steps else None
        steps.append(Step(clip(seed, 9), np.arange(9)[None] + (5 if before else 0), np.arange(4, 9), before))
    watched.error = RuntimeError("this batch only")
    with watched.held(engine):
        for step in steps:
            engine.submit(step)
    for step in steps:
        with pytest.raises(RuntimeError, match="this batch only"):
            step.result.result(20)
    other = step_of(clip(9, 4))
    engine.submit(other)
    check(ensemble, other)
    assert watched.sizes == [1, 4]


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_batch_that_fails_after_one_of_its_steps_did(
    engine: Engine, watched: Watched, ensemble: Ensemble, ahead: int
) -> None:
    """A step that failed with the one before it keeps that error when its batch fails too; the engine lives on."""
    engine._runtime.ahead = ahead
    first = Step(clip(0, 30), np.arange(9)[None], np.arange(4), None)
    second = Step(clip(1, 4), np.arange(4, 8).repeat(3)[None, :9], NO_ROWS, first)
    other = step_of(clip(2, 4))
    with watched.held(engine):
        watched.room = 0  # also for the one whose batch `second` is in
        for step in (first, second, other):
            engine.submit(step)
    for step in (first, second, other):
        with pytest.raises(OutOfDeviceMemoryError):
            step.result.result(20)
    watched.room = 100
    later = step_of(clip(3, 4))
    engine.submit(later)
    check(ensemble, later)


def test_an_error_between_two_results_reaches_those_that_wait(
    engine: Engine, watched: Watched, ensemble: Ensemble
) -> None:
    """When fetching fails in the middle of a batch, results that came stay, and the other steps fail."""

    class Unreadable:
        def __iter__(self) -> Any:
            raise RuntimeError("device error")

    unreadable: Any = Unreadable()
    launch = engine._launch

    def failing(steps: list[Step]) -> Any:
        launched = launch(steps)
        if len(launched.steps) < 2:
            return launched
        return dataclasses.replace(launched, fetch=lambda: [launched.fetch()[0], unreadable])

    good, bad, later = (step_of(clip(seed, 4)) for seed in range(3))
    with watched.held(engine):
        engine._launch = failing  # type: ignore[method-assign]
        for step in (good, bad):
            engine.submit(step)
    check(ensemble, good)
    with pytest.raises(RuntimeError, match="device error"):
        bad.result.result(20)
    engine.submit(later)
    check(ensemble, later)


def test_an_error_after_some_results_does_not_stop_the_engine(
    engine: Engine, watched: Watched, ensemble: Ensemble
) -> None:
    """When a device fails while results are fetched, the batch's steps all fail, and the engine lives on."""

    def broken() -> Any:
        raise RuntimeError("device error")

    good, bad, later = (step_of(clip(seed, 4)) for seed in range(3))
    launch = engine._launch

    def failing(steps: list[Step]) -> Any:
        launched = launch(steps)
        return dataclasses.replace(launched, fetch=broken) if failing_calls.pop() else launched

    failing_calls = [False, True]
    with watched.held(engine):
        engine._launch = failing  # type: ignore[method-assign]
        for step in (good, bad):
            engine.submit(step)
    with pytest.raises(RuntimeError, match="device error"):
        bad.result.result(20)
    with pytest.raises(RuntimeError, match="device error"):
        good.result.result(20)
    engine.submit(later)
    check(ensemble, later)


def test_a_stopped_engine_refuses_what_waits(engine: Engine, watched: Watched, ensemble: Ensemble) -> None:
    """The batch that runs is finished; what waits behind it, and what comes later, fails at once."""
    running, waiting, later = (step_of(clip(seed, 32)) for seed in range(3))
    watched.go.clear()
    engine.submit(running)
    engine.submit(waiting)
    assert watched.reached.wait(20)
    engine.stop()
    watched.go.set()
    check(ensemble, running)
    engine.submit(later)
    for step in (waiting, later):
        with pytest.raises(EngineStoppedError):
            step.result.result(20)
    assert watched.sizes == [32]
