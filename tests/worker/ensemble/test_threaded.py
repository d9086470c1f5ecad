"""The pass of a CPU's threads: what it computes, how it shares a batch, and how it fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.worker.ensemble.steps import SHAPE
from worker.ensemble.engine import Engine
from worker.ensemble.networks import Ensemble
from worker.ensemble.passes import CPU_BATCH, CPU_PART, Crops, EagerPass, ThreadedPass, frame_pass

CPU = torch.device("cpu")
MOST_PARTS = CPU_BATCH // CPU_PART


class Noting(EagerPass):
    """Notes each part's crops, its thread and that thread's number of PyTorch's threads.

    With `together`, so many parts wait for each other.
    """

    parts: list[tuple[int, str, int]]
    together: threading.Barrier | None = None

    def __call__(self, crops: Crops) -> dict[str, Tensor]:
        self.parts.append((len(crops), threading.current_thread().name, torch.get_num_threads()))
        if self.together is not None:
            self.together.wait(20)
        if any(crop.max() == 0 for crop in crops):
            raise ValueError("black")
        return super().__call__(crops)


@pytest.fixture
def noting(ensemble: Ensemble) -> Noting:
    """The plain pass of the ensemble's backbone and first member."""
    heads = [("cnn", "shared", ensemble.members[0].head)]
    found = Noting(ensemble.normalise, ensemble.backbones, heads, CPU, torch.float32, "eager")
    found.parts = []
    return found


@contextmanager
def shared(noting: Noting, threads: int) -> Iterator[ThreadedPass]:
    """The pass of so many threads, closed at the end."""
    threaded = ThreadedPass(noting, threads)
    yield threaded
    threaded.close()


def crops(count: int) -> list[Any]:
    return list(np.random.default_rng(count).integers(1, 256, (count, *SHAPE), np.uint8))


@pytest.mark.parametrize("threads", [2, 3, 16])
@pytest.mark.parametrize("count", [1, CPU_PART, 2 * CPU_PART - 1, 2 * CPU_PART, 19, CPU_BATCH])
def test_crops_come_out_in_order_as_from_the_plain_pass(noting: Noting, count: int, threads: int) -> None:
    """Whatever the number of parts."""
    given = crops(count)
    with torch.inference_mode(), shared(noting, threads) as threaded:
        plain = noting(given)["cnn"]
        noting.parts.clear()
        torch.testing.assert_close(threaded(given)["cnn"], plain)
    sizes = [size for size, _, _ in noting.parts]
    assert sum(sizes) == count
    assert len(sizes) == max(1, min(threads, MOST_PARTS, count // CPU_PART))
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("threads", "parts", "each"), [(2, 2, 1), (8, 8, 1), (9, 4, 2), (12, 6, 2), (20, 6, 3), (32, 8, 4)]
)
def test_threads_beyond_the_parts_share_a_part_s_layers(noting: Noting, threads: int, parts: int, each: int) -> None:
    """The parts run at once, each on a thread of its own."""
    with shared(noting, threads) as threaded:
        noting.together = threading.Barrier(parts)
        threaded(crops(CPU_BATCH))
    assert len({name for _, name, _ in noting.parts}) == parts
    assert {own for _, _, own in noting.parts} == {each}


def test_other_threads_keep_their_number_of_threads(noting: Noting) -> None:
    """Those that run already, and those that start later."""
    before = torch.get_num_threads()
    with shared(noting, 32) as threaded, ThreadPoolExecutor(1) as other:
        threaded(crops(CPU_BATCH))
        assert torch.get_num_threads() == before
        assert other.submit(torch.get_num_threads).result() == before


def test_a_part_that_fails_fails_the_batch_and_the_next_batch_works(noting: Noting) -> None:
    """As the plain pass does, after all parts have ended."""
    with shared(noting, 2) as threaded:
        given = crops(2 * CPU_PART)
        with pytest.raises(ValueError, match="black"):
            threaded([*given[:-1], np.zeros_like(given[0])])
        assert len(noting.parts) == 2
        assert len(threaded(given)["cnn"]) == len(given)


def test_a_closed_engine_leaves_no_threads(ensemble: Ensemble) -> None:
    """A worker gives its engine back after an idle time."""
    before = set(threading.enumerate())
    engine = Engine(ensemble, SHAPE, CPU, "fp32", partial(frame_pass, threads=2))
    engine.warm_up()
    assert len(set(threading.enumerate()) - before) == 3
    engine.close()
    assert set(threading.enumerate()) <= before


def test_several_threads_take_parts_and_one_thread_takes_all(ensemble: Ensemble) -> None:
    """What a worker on a CPU gets."""
    heads = [("cnn", "shared", ensemble.members[0].head)]
    made = [
        frame_pass(ensemble.normalise, ensemble.backbones, heads, SHAPE, CPU, torch.float32, threads=threads)
        for threads in (1, 2)
    ]
    assert [type(one) for one in made] == [EagerPass, ThreadedPass]
    assert [one.mode for one in made] == ["fused", "fused"]
    with torch.inference_mode():
        given = crops(CPU_BATCH)
        torch.testing.assert_close(made[1](given)["cnn"], made[0](given)["cnn"])
    for one in made:
        one.close()
