"""The pass of a CPU's threads: what it computes, how it shares a batch, and how it fails."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from tests.worker.ensemble.steps import SHAPE
from worker.ensemble.networks import Ensemble
from worker.ensemble.passes import CPU_BATCH, CPU_PART, Crops, EagerPass, ThreadedPass, frame_pass

CPU = torch.device("cpu")


class Noting(EagerPass):
    """Notes each part's crops, its thread and that thread's number of PyTorch's threads."""

    parts: list[tuple[int, str, int]]

    def __call__(self, crops: Crops) -> dict[str, torch.Tensor]:
        self.parts.append((len(crops), threading.current_thread().name, torch.get_num_threads()))
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


def crops(count: int) -> list[Any]:
    return list(np.random.default_rng(count).integers(1, 256, (count, *SHAPE), np.uint8))


@pytest.mark.parametrize("threads", [2, 3, 16])
@pytest.mark.parametrize("count", [1, CPU_PART, 2 * CPU_PART - 1, 2 * CPU_PART, 19, CPU_BATCH])
def test_crops_come_out_in_order_as_from_the_plain_pass(noting: Noting, count: int, threads: int) -> None:
    """Whatever the number of parts."""
    given = crops(count)
    with torch.inference_mode():
        plain = noting(given)["cnn"]
    noting.parts.clear()
    found = ThreadedPass(noting, threads)(given)
    torch.testing.assert_close(found["cnn"], plain)
    sizes = [size for size, _, _ in noting.parts]
    assert sum(sizes) == count
    assert len(sizes) == max(1, min(threads, count // CPU_PART))
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("threads", "each"), [(2, 1), (CPU_BATCH // CPU_PART, 1), (4 * CPU_BATCH // CPU_PART, 4)])
def test_threads_beyond_the_parts_share_a_part_s_layers(noting: Noting, threads: int, each: int) -> None:
    """All are used, none twice; the caller's number stays."""
    before = torch.get_num_threads()
    shared = ThreadedPass(noting, threads)
    shared(crops(CPU_BATCH))
    assert {own for _, _, own in noting.parts} == {each}
    assert len(noting.parts) == min(threads, CPU_BATCH // CPU_PART)
    assert torch.get_num_threads() == before


def test_a_part_that_fails_fails_the_batch_and_the_next_batch_works(noting: Noting) -> None:
    """As the plain pass does."""
    shared = ThreadedPass(noting, 2)
    given = crops(2 * CPU_PART)
    with pytest.raises(ValueError, match="black"):
        shared([*given[:-1], np.zeros_like(given[0])])
    assert len(shared(given)["cnn"]) == len(given)


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
