"""The ensemble in OpenVINO: the plain ensemble's answers, whatever is in a batch, and errors that say what is wrong."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openvino as ov
import pytest
import torch

from tests.worker.ensemble.steps import NO_ROWS, SHAPE, check, clip, step_of
from worker.core.openvino import LOWER, read, with_weights
from worker.ensemble import conversion, openvino_runtime
from worker.ensemble.conversion import ConversionError, Graphs, converted, on_cpu
from worker.ensemble.engine import Engine, Step
from worker.ensemble.networks import Ensemble, stored_tensors
from worker.ensemble.openvino_runtime import BATCH, PART, OpenVinoRuntime
from worker.ensemble.precision import Precision

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def graphs(ensemble: Ensemble) -> Graphs:
    """The ensemble's, converted once."""
    return converted(ensemble, SHAPE)


def weights(ensemble: Ensemble) -> dict[str, np.ndarray]:
    ((key, backbone),) = ensemble.backbones.items()
    return {f"{key}.{name}": value.numpy() for name, value in stored_tensors(backbone).items()}


def runtime(ensemble: Ensemble, graphs: Graphs, threads: int = 2, precision: Precision = "fp32") -> OpenVinoRuntime:
    filled = with_weights(graphs.encoding.clone(), weights(ensemble))
    names = [member.name for member in ensemble.members]
    return OpenVinoRuntime(filled, graphs.decoding.clone(), names, precision, threads)


@pytest.fixture
def openvino_engine(ensemble: Ensemble, graphs: Graphs) -> Iterator[Engine]:
    """An engine of two threads."""
    engine = Engine(ensemble.described, SHAPE, runtime(ensemble, graphs))
    yield engine
    engine.close()


@pytest.mark.parametrize("length", [1, PART - 1, PART, PART + 1, 3 * PART + 2, BATCH])
def test_answers_are_the_plain_ensembles(openvino_engine: Engine, ensemble: Ensemble, length: int) -> None:
    """For whole parts and for one that is filled up, again and again."""
    for seed in range(2):
        step = step_of(clip(seed, length))
        openvino_engine.submit(step)
        check(ensemble, step, TOLERANCE)


@pytest.mark.parametrize("threads", [1, 2, 5, 16])
def test_any_number_of_threads(ensemble: Ensemble, graphs: Graphs, threads: int) -> None:
    """More threads than parts, or fewer: every crop's states are those of the crop alone."""
    computing = runtime(ensemble, graphs, threads)
    crops = clip(3, BATCH)
    together = computing.encode(crops)
    for i in (0, PART, BATCH - 1):
        for name, values in computing.encode([crops[i]]).items():
            np.testing.assert_allclose(together[name][i], values[0], atol=TOLERANCE)


def test_rows_that_are_kept_serve_the_next_step(openvino_engine: Engine, ensemble: Ensemble) -> None:
    """Windows over two steps are those of the whole clip; a step may only keep rows, and label none."""
    crops = clip(5, 9)
    first = Step(crops[:5], np.empty((0, 9), np.int64), np.arange(5), None)
    second = Step(crops[5:], np.arange(9).reshape(1, 9), NO_ROWS, first)
    for step in (first, second):
        openvino_engine.submit(step)
    found = second.result.result(20)
    for name, expected in ensemble.window_probabilities(torch.from_numpy(np.stack(crops))).items():
        np.testing.assert_allclose(found[name][0], expected.numpy(), atol=TOLERANCE)
    assert {name: values.shape for name, values in first.result.result(20).items()} == {
        name: (0, len(ensemble.labels)) for name in openvino_engine.member_names
    }


def test_an_error_leaves_no_request_running(
    ensemble: Ensemble, graphs: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch fails, the next one works."""
    computing, crops, fails = runtime(ensemble, graphs), clip(2, BATCH), [True]
    expected, outputs = computing.encode(crops), openvino_runtime._outputs

    def failing(request: ov.InferRequest) -> list[np.ndarray]:
        if fails.pop():
            raise RuntimeError("out of memory")
        fails.append(False)
        return outputs(request)

    monkeypatch.setattr(openvino_runtime, "_outputs", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        computing.encode(crops)
    fails.append(False)
    for name, values in computing.encode(crops).items():
        np.testing.assert_array_equal(values, expected[name])


def test_an_error_of_one_step_fails_no_other(ensemble: Ensemble, graphs: Graphs) -> None:
    """Steps that share a batch have a request each."""
    computing = runtime(ensemble, graphs)
    states = computing.encode(clip(2, 9))
    good, bad = (computing.step(states, NO_ROWS, rows)[1] for rows in (np.arange(9)[None], np.arange(9)[None]))
    wrong = SimpleNamespace(wait=lambda: (_ for _ in ()).throw(RuntimeError("no")), output_tensors=())
    found, error = computing.fetching([good, wrong])()
    assert isinstance(found, np.ndarray)
    assert isinstance(error, RuntimeError)
    (last,) = computing.fetching([bad])()
    np.testing.assert_array_equal(found, last)


@pytest.mark.parametrize(("threads", "streams"), [(1, 1), (2, 2), (8, 8), (9, 8), (11, 5), (12, 6), (16, 8), (32, 8)])
def test_streams_leave_few_threads_over(threads: int, streams: int) -> None:
    """A stream for each thread, up to a stream for each part; more threads share streams evenly where they can."""
    assert openvino_runtime._streams(threads) == streams


def test_bf16_is_close(ensemble: Ensemble, graphs: Graphs) -> None:
    """In native instructions, or emulated."""
    engine = Engine(ensemble.described, SHAPE, runtime(ensemble, graphs, precision="bf16"))
    step = step_of(clip(1, 20))
    engine.submit(step)
    check(ensemble, step, 0.1)
    engine.close()


@pytest.mark.parametrize("window", [1, 5, 19])
def test_other_windows(make_ensemble: Callable[[int], Ensemble], window: int) -> None:
    """A graph belongs to its bundle's window; `converted` compares its answers with the networks'."""
    graphs = converted(make_ensemble(window), SHAPE)
    assert graphs.decoding.input(0).partial_shape[1].get_length() == window


def test_a_conversion_that_changes_answers_is_refused(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs are run before they are used."""
    fill = with_weights

    def wrong(model: ov.Model, tensors: dict[str, np.ndarray]) -> ov.Model:
        return fill(model, {name: values * 1.1 for name, values in tensors.items()})

    monkeypatch.setattr(conversion, "with_weights", wrong)
    with pytest.raises(ConversionError, match="probabilities differ by"):
        converted(ensemble, SHAPE)


def test_weights_that_do_not_fit_the_graph_are_refused(ensemble: Ensemble, graphs: Graphs) -> None:
    """One that is missing, one of another shape: the message names it."""
    given = weights(ensemble)
    name = next(iter(given))
    for wrong in (given | {name: given[name][:1]}, {key: value for key, value in given.items() if key != name}):
        with pytest.raises(ValueError, match="is not in the weights"):
            with_weights(graphs.encoding.clone(), wrong)


def test_files_that_are_no_graphs_are_refused() -> None:
    """One line, whatever OpenVINO says."""
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        read(b"<net", b"")


def test_members_with_backbones_of_their_own(ensemble: Ensemble) -> None:
    """Each reads its own; the conversion compares the answers."""
    one, two = (dataclasses.replace(ensemble) for _ in range(2))
    (backbone,) = ensemble.backbones.values()
    other = type(backbone)(1, 8, (12,), (1,)).eval().requires_grad_(False)
    members = tuple(ensemble.members)
    moved = type(members[1])("cnn_rnn", "own", members[1].head, members[1].temperature, members[1].weight)
    both = dataclasses.replace(one, backbones={"shared": backbone, "own": other}, members=(members[0], moved))
    assert len(converted(both, SHAPE).encoding.inputs) == 1 + 2 * (len(converted(two, SHAPE).encoding.inputs) - 1)


def test_a_backbone_for_training_is_the_plain_one(ensemble: Ensemble) -> None:
    """For any number of images."""
    (backbone,) = ensemble.backbones.values()
    images = torch.rand((7, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    fast = on_cpu(backbone, images[:3], "fp32")
    for count in (7, 1):
        torch.testing.assert_close(fast(images[:count]), backbone(images[:count]), atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_its_threads_have_a_lower_priority(ensemble: Ensemble, graphs: Graphs) -> None:
    """Decoding and detection feed them; the process's other threads keep their priority."""
    runtime(ensemble, graphs).encode(clip(0, BATCH))
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    nice = [os.getpriority(os.PRIO_PROCESS, int(task.name)) for task in Path("/proc/self/task").iterdir()]
    assert nice.count(min(mine + LOWER, 19)) >= 2  # its own, of any runtime
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == mine


def test_nothing_is_reported_to_its_makers() -> None:
    """`import openvino` sends an event to a server unless its reporting package is missing."""
    asked = "import sys, worker.inference.graphs; print(sys.modules['openvino_telemetry'])"
    ended = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "None"
