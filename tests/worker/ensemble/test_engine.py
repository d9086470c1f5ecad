"""The engine: steps that share a batch get their own results, and a full device gets smaller batches."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from worker.core.devices import OutOfDeviceMemoryError
from worker.ensemble import engine as engine_module
from worker.ensemble.engine import Crops, Engine, EngineStoppedError, Step
from worker.ensemble.networks import Ensemble, fuse
from worker.ensemble.precision import Precision

SHAPE = (16, 16, 1)
NO_ROWS = np.empty(0, np.int64)


class Watched:
    """An engine's frame pass that notes its batches, can be held back, and has room for `room` crops only."""

    def __init__(self, engine: Engine) -> None:
        self._inner = engine._pass
        self.mode, self.batch, self.buckets = self._inner.mode, self._inner.batch, self._inner.buckets
        self.sizes: list[int] = []
        self.room = 1_000_000
        self.error: Exception | None = None  # of the batch after the first
        self.go = threading.Event()
        self.go.set()
        self.reached = threading.Event()
        engine._pass = self

    def __call__(self, crops: Crops) -> dict[str, Tensor]:
        self.reached.set()
        assert self.go.wait(20)
        if len(self.sizes) == 1 and self.error is not None:
            error, self.error = self.error, None
            raise error
        if len(crops) > self.room:
            raise torch.OutOfMemoryError("out of memory")
        self.sizes.append(len(crops))
        return self._inner(crops)

    @contextmanager
    def held(self, engine: Engine) -> Iterator[None]:
        """What is submitted meanwhile waits behind a first step, all together."""
        self.go.clear()
        self.reached.clear()
        engine.submit(step_of([np.zeros(SHAPE, np.uint8)]))
        assert self.reached.wait(20)
        try:
            yield
        finally:
            self.go.set()


def clip(seed: int, length: int) -> Crops:
    return list(np.random.default_rng(seed).integers(0, 256, (length, *SHAPE), np.uint8))


def step_of(crops: Crops) -> Step:
    """One step that asks for every crop of a clip."""
    length = len(crops)
    windows = np.clip(np.arange(length)[:, None] + np.arange(-4, 5), 0, length - 1)
    return Step(crops, windows, NO_ROWS, None)


def check(ensemble: Ensemble, step: Step, tolerance: float = 1e-5) -> None:
    """The step's results are those of its own crops."""
    result = step.result.result(20)
    for row, window in enumerate(step.windows):
        for name, expected in ensemble.window_probabilities(
            torch.from_numpy(np.stack([step.crops[i] for i in window]))
        ).items():
            np.testing.assert_allclose(result[name][row], expected.numpy(), atol=tolerance)


def test_waiting_steps_share_a_batch(engine: Engine, ensemble: Ensemble) -> None:
    """Steps of several clips that wait run as one batch, and each gets its own results."""
    watched = Watched(engine)
    steps = [step_of(clip(seed, 3 + seed)) for seed in range(4)]
    with watched.held(engine):
        for step in steps:
            engine.submit(step)
    for step in steps:
        check(ensemble, step)
    assert watched.sizes == [1, 3 + 4 + 5 + 6]


def test_a_batch_is_not_overfilled(engine: Engine, ensemble: Ensemble) -> None:
    """Steps that do not fit into one batch together run one after the other."""
    watched = Watched(engine)
    steps = [step_of(clip(seed, 20)) for seed in range(3)]
    with watched.held(engine):
        for step in steps:
            engine.submit(step)
    for step in steps:
        check(ensemble, step)
    assert watched.sizes == [1, 20, 20, 20]


def test_a_clips_steps_do_not_merge_with_each_other(engine: Engine, ensemble: Ensemble) -> None:
    """A step that goes on from another runs after it, with the rows that the other kept."""
    watched = Watched(engine)
    crops = clip(0, 9)
    first = Step(crops[:5], np.empty((0, 9), np.int64), np.arange(5), None)
    second = Step(crops[5:], np.arange(9)[None], NO_ROWS, first)
    with watched.held(engine):
        engine.submit(first)
        engine.submit(second)
    expected = ensemble.window_probabilities(torch.from_numpy(np.stack(crops)))
    for name, found in second.result.result(20).items():
        np.testing.assert_allclose(found[0], expected[name].numpy(), atol=1e-5)
    assert watched.sizes == [1, 5, 4]


def test_the_engines_thread_is_its_devices(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is computed is computed with that GPU chosen, by the thread that computes it."""
    inside: list[str] = []

    @contextmanager
    def chosen(device: torch.device) -> Iterator[None]:
        inside.append(threading.current_thread().name)
        yield
        inside.remove(threading.current_thread().name)

    monkeypatch.setattr(engine_module, "on_device", chosen)
    engine = Engine(ensemble, SHAPE, torch.device("cpu"), "fp32")
    step = step_of(clip(0, 3))
    engine.submit(step)
    check(ensemble, step)
    assert inside == ["engine"]
    engine.close()
    assert inside == []


@pytest.mark.parametrize("ahead", [0, 1])
def test_two_threads(engine: Engine, ensemble: Ensemble, ahead: int) -> None:
    """Two clips at once, from a thread each, get what each of them gets alone, also when batches are launched ahead."""
    engine._ahead = ahead

    def label(seed: int) -> list[Step]:
        steps = [step_of(clip(100 * seed + i, 1 + (7 * i + seed) % 13)) for i in range(12)]
        for step in steps:
            engine.submit(step)
        for step in steps:
            step.result.result(20)
        return steps

    with ThreadPoolExecutor(2) as threads:
        for steps in threads.map(label, (1, 2)):
            for step in steps:
                check(ensemble, step)


@pytest.mark.parametrize("room", [1, 3, 10])
def test_a_full_device_gets_smaller_batches(engine: Engine, ensemble: Ensemble, room: int) -> None:
    """Out of memory halves the batch until it fits; the results are the same, and no crop is lost or repeated."""
    watched = Watched(engine)
    watched.room = room
    step = step_of(clip(0, 32))
    engine.submit(step)
    check(ensemble, step)
    assert sum(watched.sizes) == 32
    assert room / 2 < max(watched.sizes) <= room
    assert engine.halvings == {1: 5, 3: 4, 10: 2}[room]


def test_batches_grow_again_once_there_is_room(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever took the device's memory may have ended: after batches that fitted, the next larger size is tried."""
    monkeypatch.setattr(engine_module, "GROW_AFTER", 4)
    watched = Watched(engine)
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


def test_no_room_for_one_crop_fails_the_step_alone(engine: Engine, ensemble: Ensemble) -> None:
    """When not even one crop fits, every step of the batch learns it; the engine lives on."""
    watched = Watched(engine)
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


def test_a_wrong_step_does_not_fail_those_that_share_its_batch(engine: Engine, ensemble: Ensemble) -> None:
    """What goes wrong with one clip's rows is no other clip's fault."""
    watched = Watched(engine)
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
def test_a_clips_next_steps_fail_with_the_one_before(engine: Engine, ensemble: Ensemble, ahead: int) -> None:
    """Nothing is computed from rows that a failed step never kept."""
    engine._ahead = ahead
    watched = Watched(engine)
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
def test_a_batch_that_fails_after_one_of_its_steps_did(engine: Engine, ensemble: Ensemble, ahead: int) -> None:
    """A step that failed with the one before it keeps that error when its batch fails too; the engine lives on."""
    engine._ahead = ahead
    watched = Watched(engine)
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


def test_an_error_between_two_results_reaches_those_that_wait(engine: Engine, ensemble: Ensemble) -> None:
    """When fetching fails in the middle of a batch, results that came stay, and the other steps fail."""

    class Unreadable:
        def numpy(self) -> Any:
            raise RuntimeError("device error")

    unreadable: Any = Unreadable()
    launch = engine._launch

    def failing(steps: list[Step]) -> Any:
        launched = launch(steps)
        if len(launched.steps) < 2:
            return launched
        return dataclasses.replace(launched, results=[launched.results[0], unreadable])

    good, bad, later = (step_of(clip(seed, 4)) for seed in range(3))
    watched = Watched(engine)
    with watched.held(engine):
        engine._launch = failing  # type: ignore[method-assign]
        for step in (good, bad):
            engine.submit(step)
    check(ensemble, good)
    with pytest.raises(RuntimeError, match="device error"):
        bad.result.result(20)
    engine.submit(later)
    check(ensemble, later)


def test_warming_up_leaves_no_trace(engine: Engine) -> None:
    """Counters start at zero after the warm-up."""
    engine.warm_up()
    assert (engine.stats.batches, engine.stats.crops, engine.mode) == (0, 0, "fused")


def test_fusion(engine: Engine) -> None:
    """The weighted mean of the chosen members; where all their weights are zero, the plain mean."""
    rng = np.random.default_rng(0)
    given = {name: rng.dirichlet(np.ones(5), 6).astype(np.float32) for name in engine.member_names}
    stacked = torch.from_numpy(np.stack(list(given.values())))
    expected = fuse(stacked, torch.tensor([1.0, 2.0, 0.5]))
    np.testing.assert_allclose(engine.fuse(given, engine.member_names), expected.numpy(), atol=1e-6)
    engine.weights = dict.fromkeys(engine.member_names, 0.0)
    np.testing.assert_allclose(engine.fuse(given, ("cnn",)), given["cnn"], atol=1e-6)
    np.testing.assert_allclose(engine.fuse(given, engine.member_names), stacked.mean(dim=0).numpy(), atol=1e-6)


def test_an_error_after_some_results_does_not_stop_the_engine(engine: Engine, ensemble: Ensemble) -> None:
    """When a device fails while results are fetched, the batch's steps all fail, and the engine lives on."""

    class Broken:
        def synchronize(self) -> None:
            raise RuntimeError("device error")

    good, bad, later = (step_of(clip(seed, 4)) for seed in range(3))
    launch = engine._launch

    def failing(steps: list[Step]) -> Any:
        launched = launch(steps)
        return dataclasses.replace(launched, done=broken) if failing_calls.pop() else launched

    broken: Any = Broken()
    failing_calls = [False, True]
    watched = Watched(engine)
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


def test_a_stopped_engine_refuses_what_waits(engine: Engine, ensemble: Ensemble) -> None:
    """The batch that runs is finished; what waits behind it, and what comes later, fails at once."""
    watched = Watched(engine)
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


def test_counters_taken_from_several_threads_add_up(engine: Engine) -> None:
    """Jobs that end at the same time do not count the same batches twice."""
    done = threading.Event()

    def take() -> int:
        crops = 0
        while not done.is_set():
            crops += engine.take_stats().crops
        return crops

    with ThreadPoolExecutor(3) as threads:
        taken = [threads.submit(take) for _ in range(3)]
        for seed in range(40):
            step = step_of(clip(seed, 2))
            engine.submit(step)
            step.result.result(20)
        done.set()
        assert sum(future.result() for future in taken) + engine.take_stats().crops == 80


@pytest.mark.gpu
@pytest.mark.parametrize(("graphs", "mode"), [(False, "eager"), (True, "cuda-graphs")])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.15)])  # bf16 on a CPU: 0.04
def test_a_gpu_answers_as_the_plain_way(
    ensemble: Ensemble, precision: Precision, tolerance: float, graphs: bool, mode: str
) -> None:
    """Batches of one crop, of a few and of many, recorded as graphs and not, in both precisions."""
    engine = Engine(ensemble, SHAPE, torch.device("cuda:0"), precision, graphs=graphs)
    try:
        assert engine.mode == mode
        for length in (1, 7, 40, 7):
            step = step_of(clip(length, length))
            engine.submit(step)
            check(ensemble, step, tolerance)
    finally:
        engine.close()
