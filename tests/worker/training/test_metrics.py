"""Metrics against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from worker.training.metrics import calibration_error, challenge_metric, f1_scores, measure

TRUTH = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 1, 1])


def probabilities(predicted: np.ndarray, confidence: float = 0.8) -> np.ndarray:
    """Rows with `confidence` on the predicted of three labels."""
    rest = (1 - confidence) / 2
    return np.where(np.eye(3)[predicted] > 0, confidence, rest)


def test_every_metric_of_a_small_case() -> None:
    """Accuracy 4/6; F1 0.8, 2/3 and 0; confusion rows are true labels."""
    found = measure(probabilities(PREDICTED), TRUTH, ("a", "b", "c"))
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3 + 0) / 3)
    assert found["challenge_metric"] == pytest.approx(0.67 * found["macro_f1"] + 0.33 * found["accuracy"])
    assert found["confusion"] == [[2, 1, 0], [0, 2, 0], [0, 1, 0]]
    assert found["per_class"]["b"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 2}
    assert found["ece"] == pytest.approx(0.8 - 4 / 6)


def test_published_challenge_metric() -> None:
    """F1 0.4133 and accuracy 0.6216 are the paper's 0.4821."""
    assert challenge_metric(0.4133, 0.6216) == pytest.approx(0.4821, abs=1e-4)


def test_calibration_error_weighs_bins_by_their_rows() -> None:
    """Half of the rows at 0.9 and always right, half at 0.5 and never: (0.1 + 0.5) / 2."""
    found = np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5], [0.5, 0.5]])
    assert calibration_error(found, np.array([0, 0, 1, 1])) == pytest.approx(0.3)


def test_a_label_that_never_occurs_has_f1_zero() -> None:
    """Neither annotated nor predicted: 0, not a division by zero."""
    assert f1_scores(np.array([[3, 0], [0, 0]])).tolist() == [1.0, 0.0]


def test_label_permutation_commutes() -> None:
    """Renaming labels moves the per-class figures and keeps the others."""
    rng = np.random.default_rng(0)
    found, truth = rng.dirichlet(np.ones(4), 200), rng.integers(0, 4, 200)
    order = np.array([2, 0, 3, 1])
    before = measure(found, truth, ("a", "b", "c", "d"))
    after = measure(found[:, order], np.argsort(order)[truth], tuple("abcd"[k] for k in order))
    for name in ("accuracy", "macro_f1", "ece"):
        assert after[name] == pytest.approx(before[name])
    assert after["per_class"] == before["per_class"]
