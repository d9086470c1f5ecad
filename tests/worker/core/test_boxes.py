"""Boxes: overlap is a fraction, and matching is one to one by closeness."""

from __future__ import annotations

import numpy as np
import pytest

from worker.core.boxes import iou_matrix, match_boxes


def boxes(*values: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 4)


def test_overlap_of_known_boxes() -> None:
    """Same boxes 1, apart 0, half covered 1/3."""
    found = iou_matrix(boxes((0, 0, 10, 10)), boxes((0, 0, 10, 10), (20, 0, 30, 10), (5, 0, 15, 10)))
    np.testing.assert_allclose(found, [[1, 0, 1 / 3]], rtol=1e-6)


def test_overlap_is_symmetric_and_a_fraction() -> None:
    """For any boxes the overlap lies in 0..1 and does not depend on their order."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 50, (40, 2))
    some = np.hstack([low, low + rng.uniform(1, 50, (40, 2))]).astype(np.float32)
    overlap = iou_matrix(some, some)
    np.testing.assert_allclose(overlap, overlap.T)
    assert overlap.min() >= 0
    assert overlap.max() <= 1
    np.testing.assert_allclose(np.diag(overlap), 1, rtol=1e-6)


def test_empty_boxes_have_no_overlap() -> None:
    """A box without area overlaps nothing, itself included."""
    assert iou_matrix(boxes((5, 5, 5, 5)), boxes((5, 5, 5, 5), (0, 0, 10, 10))).max() == 0


def test_nothing_matches_nothing() -> None:
    """Without boxes on either side there are no pairs."""
    assert match_boxes(boxes(), boxes((0, 0, 1, 1))) == []
    assert match_boxes(boxes((0, 0, 1, 1)), boxes()) == []


@pytest.mark.parametrize("seed", range(10))
def test_matching_undoes_a_shuffle(seed: int) -> None:
    """Faces that moved a little and were listed in another order are matched to themselves, each once."""
    rng = np.random.default_rng(seed)
    grid = np.array([(x, y) for x in range(0, 600, 150) for y in range(0, 450, 150)], np.float32)
    before = np.hstack([grid, grid + rng.uniform(80, 100, (len(grid), 1))]).astype(np.float32)
    order = rng.permutation(len(before))
    after = (before + rng.uniform(-20, 20, (len(before), 1)).astype(np.float32))[order]
    assert match_boxes(before, after) == [(int(i), int(np.flatnonzero(order == i)[0])) for i in range(len(before))]


def test_the_closest_pair_is_first() -> None:
    """Of two candidates for a face, the nearer one is chosen."""
    assert match_boxes(boxes((0, 0, 100, 100)), boxes((40, 0, 140, 100), (10, 0, 110, 100))) == [(0, 1)]


def test_fast_faces_match_without_overlap() -> None:
    """Boxes half a size apart are one face, a size apart are two."""
    assert match_boxes(boxes((0, 0, 100, 100)), boxes((60, 0, 160, 100))) == [(0, 0)]
    assert match_boxes(boxes((0, 0, 100, 100)), boxes((100, 0, 200, 100))) == []


def test_a_face_does_not_double_its_size() -> None:
    """Boxes around one centre with too different sizes are two faces."""
    assert match_boxes(boxes((0, 0, 100, 100)), boxes((-15, -15, 115, 115))) == [(0, 0)]
    assert match_boxes(boxes((0, 0, 100, 100)), boxes((-50, -50, 150, 150))) == []


def test_boxes_without_area_do_not_crash() -> None:
    """A degenerate box is matched or not, but gives no warning and no error."""
    assert match_boxes(boxes((5, 5, 5, 5)), boxes((0, 0, 10, 10))) == []
