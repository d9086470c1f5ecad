"""Pose: exact on the generic head, signs as documented."""

from __future__ import annotations

import numpy as np
import pytest

from worker.core.pose import HEAD, poses, rotation


@pytest.mark.parametrize("angles", [(0, 0, 0), (35, 0, 0), (0, -25, 0), (0, 0, 80), (-40, 20, 60), (25, -20, -170)])
def test_a_turned_head_is_found_exactly(angles: tuple[float, float, float]) -> None:
    """Any turn, scale and place of the generic head, seen from far away."""
    points = (HEAD @ rotation(*angles).T)[:, :2] * 0.7 + (300, 40)
    (found,) = poses(points[None].astype(np.float32))
    assert found == pytest.approx(angles, abs=0.05)


def test_signs_are_those_of_the_picture() -> None:
    """The nose moves right of the eyes for a positive yaw, up for a positive pitch; a positive roll is clockwise."""
    start = HEAD[2, :2]
    right, up = ((HEAD @ rotation(*turn).T)[2, :2] for turn in ((30, 0, 0), (0, 20, 0)))
    assert right[0] > start[0]
    assert up[1] < start[1]
    eyes = (HEAD @ rotation(0, 0, 20).T)[:2, 1]
    assert eyes[1] > eyes[0]


def test_none_and_degenerate() -> None:
    """No face has no pose; five equal points have some, and it is a number."""
    assert poses(np.empty((0, 5, 2), np.float32)) == []
    assert np.isfinite(poses(np.full((1, 5, 2), 7, np.float32))).all()
