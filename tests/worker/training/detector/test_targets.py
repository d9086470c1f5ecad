"""Which cell answers for which face, and that the loss is least where the answer is right."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from worker.faces.network import all_cells
from worker.training.detector.settings import LossSettings
from worker.training.detector.targets import assign, detection_loss

CENTRES, STRIDES = all_cells(256, 256, torch.device("cpu"))
HOW = LossSettings()
NONE = torch.empty(1, 0, 4)


def face(x: float, y: float, side: float) -> Tensor:
    """(1, 1, 14): a square face around a point."""
    half = side / 2
    marks = [value for dx, dy in ((-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1)) for value in (x + dx * 4, y + dy * 4)]
    return torch.tensor([[[x - half, y - half, x + half, y + half, *marks]]])


def perfect(true: Tensor, score: float) -> Tensor:
    """(1, N, 15): every cell answers that face."""
    box = true[0, 0, :4]
    row = torch.cat((torch.tensor([score]), (box[:2] + box[2:]) / 2, box[2:] - box[:2], true[0, 0, 4:]))
    return row.repeat(1, len(CENTRES), 1)


@pytest.mark.parametrize(("side", "stride"), [(10, 8), (30, 8), (36, 8), (36, 16), (60, 16), (100, 32), (220, 32)])
def test_every_size_has_a_stride(side: float, stride: int) -> None:
    """Small faces answer at fine strides, large ones at coarse ones, those between at two."""
    targets = assign(CENTRES, STRIDES, face(120, 130, side), NONE, HOW)
    assert (targets.face[0] >= 0)[stride == STRIDES].any()


@pytest.mark.parametrize("x", [100.0, 101.3, 103.9, 104.5, 107.0])
@pytest.mark.parametrize("side", [9.0, 40.0, 200.0])
def test_no_face_falls_between_cells(x: float, side: float) -> None:
    """Wherever its centre is, at least one cell answers for it, and that cell is near."""
    targets = assign(CENTRES, STRIDES, face(x, x + 2, side), NONE, HOW)
    answering = CENTRES[targets.face[0] >= 0]
    assert len(answering)
    assert ((answering - torch.tensor([x, x + 2])).norm(dim=1) <= max(0.75 * 32, 0.2 * side)).all()


def test_the_nearer_of_two_faces_is_answered_for() -> None:
    """Cells between two faces take the closer one; rows of NaN are nobody."""
    two = torch.cat((face(100, 100, 30), face(124, 100, 30), torch.full((1, 1, 14), torch.nan)), dim=1)
    targets = assign(CENTRES, STRIDES, two, NONE, HOW)
    for i, x in ((0, 100), (1, 124)):
        at = CENTRES[targets.face[0] == i]
        assert len(at)
        assert ((at[:, 0] - x).abs() <= 12).all()
    assert int(targets.face.max()) == 1


def test_unsure_places_are_told_nothing() -> None:
    """Inside an unsure box a score is neither right nor wrong; elsewhere it is."""
    targets = assign(CENTRES, STRIDES, torch.empty(1, 0, 14), torch.tensor([[[40.0, 40, 80, 80]]]), HOW)
    inside = ((CENTRES >= 40) & (CENTRES <= 80)).all(dim=1)
    assert not targets.told[0][inside].any()
    assert targets.told[0][~inside].all()


def test_the_right_answer_costs_least() -> None:
    """Moving the box, the landmarks or the score away from the truth costs more."""
    true = face(120, 130, 60)
    targets = assign(CENTRES, STRIDES, true, NONE, HOW)
    right = perfect(true, -12.0)
    right[0, targets.face[0] >= 0, 0] = 12.0
    best = float(detection_loss(right, targets, true, HOW))
    assert best == pytest.approx(0, abs=1e-3)
    for index in (0, 1, 3, 7):
        wrong = right.clone()
        wrong[0, :, index] += -12.0 if index == 0 else 9.0
        assert float(detection_loss(wrong, targets, true, HOW)) > best + 0.05


def test_scenes_without_faces_teach_too() -> None:
    """No face at all is no division by zero: certain boxes cost, low scores cost nothing."""
    none = torch.empty(1, 0, 14)
    targets = assign(CENTRES, STRIDES, none, NONE, HOW)
    low = detection_loss(perfect(face(50, 50, 30), -12.0), targets, none, HOW)
    high = detection_loss(perfect(face(50, 50, 30), 5.0), targets, none, HOW)
    assert float(low) == pytest.approx(0, abs=1e-3)
    assert float(high) > 1
