"""From a network's answers for all cells to the faces of an image: threshold, then one box a face."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from worker.core.boxes import iou_matrix
from worker.core.records import Detections
from worker.faces.network import decoded, flat

NMS_IOU = 0.35  # boxes that overlap more are the same face
BONUS_BELOW_PX = 64.0  # the root of a box's area
MOST_HALVINGS = 3.0
MOST_CANDIDATES = 1000  # the best so many cells are looked at


def faces_in(
    maps: Sequence[Tensor], cells: tuple[Tensor, Tensor], min_score: float, small_bonus: float
) -> list[Detections]:
    """Faces of every image of a batch, best first, in pixels of the images.

    maps: as `DetectorNet` gives them.  cells: their centres and strides, `all_cells`.  small_bonus: added to a score's
    logit for each halving of a box's size below `BONUS_BELOW_PX`.  The score has learnt how well its box overlaps a
    face, and small boxes overlap less well, so that one threshold would otherwise leave out certain, small faces.
    """
    answers = flat(maps)  # (B, N, 15)
    lowest = math.log(min_score / (1 - min_score)) if 0 < min_score < 1 else math.copysign(math.inf, min_score - 0.5)
    # Few cells hold a face: only those are computed any further.
    image, cell = (answers[..., 0] >= lowest - small_bonus * MOST_HALVINGS).nonzero(as_tuple=True)
    centres, strides = cells
    rows = decoded(answers[image, cell].float(), centres[cell], strides[cell])
    halvings = (BONUS_BELOW_PX / rows[:, 3:5].prod(dim=1).sqrt().clamp(min=1e-3)).log2().clamp(0, MOST_HALVINGS)
    rows[:, 0] = (rows[:, 0] + small_bonus * halvings).sigmoid()
    images, found = image.cpu().numpy(), rows.cpu().numpy()
    return [faces_of(found[images == i], min_score) for i in range(len(answers))]


def faces_of(cells: npt.NDArray[np.float32], min_score: float) -> Detections:
    """Faces of one image, best first.

    cells: (N, 15) as `decoded` gives them, but with the score already in 0..1.
    """
    candidates = cells[cells[:, 0] >= min_score]
    candidates = candidates[np.argsort(-candidates[:, 0], kind="stable")][:MOST_CANDIDATES]
    if not len(candidates):
        return Detections.none()
    half = candidates[:, 3:5] / 2
    boxes = np.hstack([candidates[:, 1:3] - half, candidates[:, 1:3] + half]).astype(np.float32)
    kept = best_of_each(boxes)
    return Detections(boxes[kept], candidates[kept, 0], candidates[kept, 5:].reshape(-1, 5, 2))


def best_of_each(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Indices of the boxes that no better box covers; boxes (N, 4), best first."""
    same = iou_matrix(boxes, boxes) > NMS_IOU
    open_ = np.ones(len(boxes), np.bool_)
    kept = []
    for i in range(len(boxes)):
        if open_[i]:
            kept.append(i)
            open_ &= ~same[i]
    return np.array(kept, np.intp)
