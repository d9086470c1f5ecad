"""Boxes: overlap, distance, and matching between frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from worker.core.records import Floats

# Two boxes can be the same face if their centres are at most this far apart, in units of the mean box size ...
MAX_CENTRE_DISTANCE = 0.7
# ... and their sizes differ by at most this factor.
MAX_SIZE_RATIO = 1.8


def match_boxes(before: Floats, after: Floats) -> list[tuple[int, int]]:
    """Pairs (i, j), sorted: box i of `before` (N, 4) and box j of `after` (M, 4), xyxy, are the same face.

    Greedy one-to-one matching by the distance of centres in box sizes plus the log ratio of sizes, so that fast faces
    whose boxes no longer overlap still match.
    """
    if not len(before) or not len(after):
        return []
    size_before, size_after = _sizes(before)[:, None], _sizes(after)[None, :]  # (N, 1), (1, M)
    offset = _centres(before)[:, None] - _centres(after)[None, :]  # (N, M, 2)
    distance = np.hypot(offset[..., 0], offset[..., 1]) / ((size_before + size_after) / 2)
    ratio = np.maximum(size_before / size_after, size_after / size_before)
    cost = np.where((distance <= MAX_CENTRE_DISTANCE) & (ratio <= MAX_SIZE_RATIO), distance + np.log(ratio), np.inf)
    pairs: list[tuple[int, int]] = []
    # Faces are few, so a greedy search is fast enough.
    while np.isfinite(cost).any():
        i, j = (int(v) for v in np.unravel_index(int(cost.argmin()), cost.shape))
        pairs.append((i, j))
        cost[i, :] = np.inf
        cost[:, j] = np.inf
    return sorted(pairs)


def iou_matrix(a: Floats, b: Floats) -> npt.NDArray[np.float32]:
    """Intersection over union of every pair: (N, 4), (M, 4) xyxy -> (N, M) in 0..1."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = np.clip(high - low, 0, None).prod(axis=-1)
    area = (a[:, 2:] - a[:, :2]).prod(axis=-1)[:, None] + (b[:, 2:] - b[:, :2]).prod(axis=-1)[None, :]
    return np.asarray(intersection / np.maximum(area - intersection, 1e-9), np.float32)


def apart(boxes: Floats, iou: float) -> npt.NDArray[np.bool_]:
    """(N,) mask: box i of (N, 4) has an IoU of at most `iou` with every earlier box."""
    if len(boxes) < 2:
        return np.ones(len(boxes), np.bool_)
    return np.asarray(~np.triu(iou_matrix(boxes, boxes) > iou, k=1).any(axis=0), np.bool_)


def _centres(boxes: Floats) -> Floats:
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) / 2, np.float32)


def _sizes(boxes: Floats) -> Floats:
    return np.asarray(np.sqrt(np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=-1), 1e-6)), np.float32)
