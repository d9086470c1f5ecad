"""Metrics of labels and probabilities against annotations.

The challenge's metric is 0.67 * macro-F1 + 0.33 * accuracy (ABAW 2021).  Expected calibration error: Guo et al. 2017,
On Calibration of Modern Neural Networks (arXiv 1706.04599), with equal-width bins of the highest probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

CALIBRATION_BINS = 15
CHALLENGE_F1_SHARE = 0.67

Probabilities = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]


def confusion_matrix(truth: Indices, predicted: Indices, labels: int) -> Indices:
    """(K, K) counts, a row a true label, a column a predicted one; truth and predicted (N,) in 0..K-1."""
    return np.bincount(truth * labels + predicted, minlength=labels * labels).reshape(labels, labels).astype(np.int64)


def f1_scores(confusion: Indices) -> npt.NDArray[np.float64]:
    """(K,) F1 of every label; 0 for a label that is neither annotated nor predicted."""
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    return np.asarray(2 * np.diag(confusion) / np.maximum(both, 1), np.float64)


def challenge_metric(macro_f1: float, accuracy: float) -> float:
    """0.67 * macro-F1 + 0.33 * accuracy."""
    return CHALLENGE_F1_SHARE * macro_f1 + (1 - CHALLENGE_F1_SHARE) * accuracy


def calibration_error(probabilities: Probabilities, truth: Indices, bins: int = CALIBRATION_BINS) -> float:
    """Mean gap between confidence and accuracy over equal-width bins of the confidence, weighted by their rows.

    probabilities: (N, K), rows sum to 1.  truth: (N,).
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(which, confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))


def measure(probabilities: Probabilities, truth: Indices, labels: Sequence[str]) -> dict[str, Any]:
    """Every metric that `evaluate` prints.

    probabilities: (N, K), rows sum to 1, N > 0.  truth: (N,) in 0..K-1.  Macro-F1 is the mean over all K labels.
    """
    confusion = confusion_matrix(truth, probabilities.argmax(axis=1).astype(np.int64), len(labels))
    f1 = f1_scores(confusion)
    hits = np.diag(confusion)
    precision = hits / np.maximum(confusion.sum(axis=0), 1)
    recall = hits / np.maximum(confusion.sum(axis=1), 1)
    accuracy, macro_f1 = float(hits.sum() / len(truth)), float(f1.mean())
    return {
        "accuracy": accuracy,
        "macro_f1": macro_f1,
        "challenge_metric": challenge_metric(macro_f1, accuracy),
        "ece": calibration_error(probabilities, truth),
        "per_class": {
            label: {
                "precision": float(precision[k]),
                "recall": float(recall[k]),
                "f1": float(f1[k]),
                "support": int(confusion[k].sum()),
            }
            for k, label in enumerate(labels)
        },
        "confusion": confusion.tolist(),
    }


def headline(metrics: dict[str, Any]) -> dict[str, float]:
    """The four single numbers of `measure`, rounded for people."""
    return {name: round(metrics[name], 4) for name in ("accuracy", "macro_f1", "challenge_metric", "ece")}
