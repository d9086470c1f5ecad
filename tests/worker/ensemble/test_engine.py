"""The engine: steps that share a batch get their own results."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch

from tests.worker.ensemble.steps import NO_ROWS, Watched, check, clip, step_of, torch_engine
from worker.ensemble import torch_runtime
from worker.ensemble.engine import Engine, Step
from worker.ensemble.fusion import fuse
from worker.ensemble.networks import Ensemble
from worker.ensemble.passes import frame_pass
from worker.ensemble.precision import Precision


def test_waiting_steps_share_a_batch(engine: Engine, watched: Watched, ensemble: Ensemble) -> None:
    """Steps of several clips that wait run as one batch, and each gets its own results."""
    steps = [step_of(clip(seed, 3 + seed)) for seed in range(4)]
    with watched.held(engine):
        for step in steps:
            engine.submit(step)
    for step in steps:
        check(ensemble, step)
    assert watched.sizes == [1, 3 + 4 + 5 + 6]


def test_a_batch_is_not_overfilled(engine: Engine, watched: Watched, ensemble: Ensemble) -> None:
    """Steps that do not fit into one batch together run one after the other."""
    steps = [step_of(clip(seed, 20)) for seed in range(3)]
    with watched.held(engine):
        for step in steps:
            engine.submit(step)
    for step in steps:
        check(ensemble, step)
    assert watched.sizes == [1, 20, 20, 20]


def test_a_clips_steps_do_not_merge_with_each_other(engine: Engine, watched: Watched, ensemble: Ensemble) -> None:
    """A step that continues another runs after it, with the rows that the other kept."""
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

    monkeypatch.setattr(torch_runtime, "on_device", chosen)
    engine = torch_engine(ensemble)
    step = step_of(clip(0, 3))
    engine.submit(step)
    check(ensemble, step)
    assert inside == ["engine"]
    engine.close()
    assert inside == []


@pytest.mark.parametrize("ahead", [0, 1])
def test_two_threads(engine: Engine, ensemble: Ensemble, ahead: int) -> None:
    """Two clips at once, from a thread each, get what each of them gets alone, also when batches are launched ahead."""
    engine._runtime.ahead = ahead

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


def test_warming_up_leaves_no_trace(engine: Engine) -> None:
    """Counters start at zero after the warm-up."""
    engine.warm_up()
    assert (engine.stats.batches, engine.stats.crops, engine.mode) == (0, 0, "eager")


def test_fusion(engine: Engine) -> None:
    """The weighted mean of the chosen members; where all their weights are zero, the plain mean."""
    rng = np.random.default_rng(0)
    given = {name: rng.dirichlet(np.ones(5), 6).astype(np.float32) for name in engine.member_names}
    stacked = np.stack(list(given.values()))
    expected = fuse(stacked, np.array([1.0, 2.0, 0.5], np.float32))
    np.testing.assert_allclose(engine.fuse(given, engine.member_names)[0], expected, atol=1e-6)
    engine.weights = dict.fromkeys(engine.member_names, 0.0)
    np.testing.assert_allclose(engine.fuse(given, ("cnn",))[0], given["cnn"], atol=1e-6)
    np.testing.assert_allclose(engine.fuse(given, engine.member_names)[0], stacked.mean(axis=0), atol=1e-6)


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
    engine = torch_engine(ensemble, "cuda:0", precision, partial(frame_pass, graphs=graphs))
    try:
        assert engine.mode == mode
        for length in (1, 7, 40, 7):
            step = step_of(clip(length, length))
            engine.submit(step)
            check(ensemble, step, tolerance)
    finally:
        engine.close()
