"""The detector's network: cells, their places, and inference that equals training's network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from worker.core.conv_fusion import fold
from worker.faces.network import (
    DetectorNet,
    DetectorSizes,
    all_cells,
    cell_centres,
    decoded,
    flat,
    grid_sizes,
    initialise,
)

TINY = DetectorSizes(stem=(4, 8), widths=(8, 8, 8), depths=(1, 1, 1), neck=8)


def net(seed: int = 0) -> DetectorNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = DetectorNet(TINY)
        initialise(made)
    return made.eval()


@pytest.mark.parametrize("size", [(64, 64), (360, 640), (361, 637), (9, 200), (1, 1)])
def test_any_size_gives_the_cells_that_are_counted(size: tuple[int, int]) -> None:
    """Maps of every stride have the promised rows and columns, also where no size is a multiple of a stride."""
    with torch.inference_mode():
        maps = net()(torch.rand(2, 3, *size))
    assert [tuple(raw.shape[2:]) for raw in maps] == grid_sizes(*size)
    centres, strides = all_cells(*size, torch.device("cpu"))
    count = sum(rows * columns for rows, columns in grid_sizes(*size))
    assert (len(centres), len(strides)) == (count, count)
    assert decoded(flat(maps), centres, strides).shape == (2, count, 15)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_cell_looks_where_its_centre_is(level: int) -> None:
    """The pixels that move a cell's answer lie around the centre that its answer is relative to."""
    made = net()
    for module in made.modules():  # every weight alike: what is seen is then the receptive field itself
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 0.01)
    pixels = torch.rand(1, 3, 257, 257, requires_grad=True)
    # The stages alone: the coarser maps that are added lie up to half their stride beside.
    feature = made.stem(pixels)
    for stage in list(made.stages)[: level + 1]:
        feature = stage(feature)
    rows, columns = feature.shape[2:]
    row, column = rows // 2, columns // 2
    (gradient,) = torch.autograd.grad(feature[0, :, row, column].sum(), pixels)
    weight = gradient.abs().sum(dim=(0, 1)).numpy()
    places = np.arange(257) + 0.5
    seen = (
        float((weight.sum(axis=0) * places).sum() / weight.sum()),
        float((weight.sum(axis=1) * places).sum() / weight.sum()),
    )
    centre = cell_centres(rows, columns, (8, 16, 32)[level], torch.device("cpu")).view(rows, columns, 2)[row, column]
    assert seen == pytest.approx(centre.tolist(), abs=0.1)


def test_merged_normalisation_changes_nothing() -> None:
    """Folded for inference, a network with lived-in statistics answers what it answered."""
    made = net(3).train()
    for _ in range(3):
        made(torch.rand(4, 3, 64, 64))
    pixels = torch.rand(1, 3, 96, 128)
    with torch.inference_mode():
        before, after = flat(made.eval()(pixels)), flat(fold(made)(pixels))
    assert torch.allclose(before, after, rtol=1e-4, atol=1e-3)


def test_an_untrained_network_sees_almost_no_face() -> None:
    """Scores start low, so that the many empty cells do not drown the first steps."""
    with torch.inference_mode():
        cells = flat(net()(torch.rand(1, 3, 128, 128)))
    assert 0.005 < float(cells[..., 0].sigmoid().mean()) < 0.02
