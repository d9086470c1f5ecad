"""From cells to faces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core.boxes import iou_matrix
from worker.faces.network import all_cells, grid_sizes
from worker.faces.suppression import NMS_IOU, faces_in, faces_of


def cell(score: float, x: float, y: float, side: float) -> list[float]:
    """A cell's answer with landmarks that name it."""
    return [score, x, y, side, side, *([x, y] * 5)]


def test_the_best_of_several_answers_for_a_face_is_kept() -> None:
    """Neighbouring cells answer for the same face; the most certain one is it, with its own landmarks."""
    cells = np.array([cell(0.7, 50, 50, 40), cell(0.9, 52, 50, 40), cell(0.8, 150, 50, 40)], np.float32)
    found = faces_of(cells, 0.5)
    assert found.scores == pytest.approx([0.9, 0.8])
    assert found.boxes.tolist() == [[32, 30, 72, 70], [130, 30, 170, 70]]
    assert found.landmarks is not None
    assert found.landmarks[:, 0].tolist() == [[52, 50], [150, 50]]


def test_nothing_certain_is_nothing() -> None:
    """Below the threshold there is no face, and the answer still has the shapes of one."""
    found = faces_of(np.array([cell(0.4, 5, 5, 4)], np.float32), 0.5)
    assert (len(found), found.boxes.shape) == (0, (0, 4))


@pytest.mark.parametrize(("bonus", "widths"), [(0.0, []), (0.5, [8]), (2.0, [8, 32])])
def test_small_faces_get_a_bonus(bonus: float, widths: list[int]) -> None:
    """Each halving below 64 pixels lifts a score by the same; larger faces keep theirs, and no lifted one is lost."""
    maps = [torch.full((1, 15, *size), -20.0) for size in grid_sizes(256, 256)]
    for level, (row, size) in enumerate(((4, 8.0), (4, 32.0), (5, 128.0))):
        answer = torch.zeros(15)
        answer[0] = -1.0  # below the threshold of 0.5, whose logit is 0
        answer[3:5] = float(np.log(size / (8, 16, 32)[level]))
        maps[level][0, :, row, row] = answer
    (found,) = faces_in(maps, all_cells(256, 256, torch.device("cpu")), 0.5, bonus)
    assert sorted(np.rint(found.boxes[:, 2] - found.boxes[:, 0]).astype(int).tolist()) == widths
    assert (found.scores >= 0.5).all()


@settings(deadline=None)
@given(st.lists(st.tuples(*(st.floats(1, 100) for _ in range(4))), max_size=40), st.floats(0.0, 1.0))
def test_kept_boxes_stand_apart_and_cover_the_rest(rows: list[tuple[float, ...]], threshold: float) -> None:
    """No two kept boxes are the same face, and every box left out is the same face as a better one that is kept."""
    cells = np.array([cell(s / 100, x, y, side) for s, x, y, side in rows], np.float32).reshape(-1, 15)
    kept = faces_of(cells, threshold)
    overlap = iou_matrix(kept.boxes, kept.boxes) - np.eye(len(kept), dtype=np.float32)
    assert (overlap <= NMS_IOU + 1e-6).all()
    certain = cells[cells[:, 0] >= threshold]
    half = certain[:, 3:5] / 2
    boxes = np.hstack([certain[:, 1:3] - half, certain[:, 1:3] + half])
    for box, score in zip(boxes, certain[:, 0], strict=True):
        better = kept.boxes[kept.scores >= score]
        assert len(better)
        assert iou_matrix(box[None].astype(np.float32), better).max() > NMS_IOU
