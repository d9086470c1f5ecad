"""Published face detection networks: how the maps of cells that they answer with become faces.

One file for each network.  All take (B, 3, H, W) float RGB in 0..255, H and W multiples of `MULTIPLE`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.faces.networks import centerface, retinaface, yunet
from worker.faces.networks.cells import Array, Candidates

MULTIPLE = 32


@dataclass(frozen=True)
class FaceNetwork:
    """A network's definition without its weights.

    decode: (maps, minimum score) -> candidates.  min_score: its default threshold as the only detector.
    nms_iou: candidates with a higher IoU are the same face.
    """

    name: str
    decode: Callable[[Sequence[Array], float], Candidates]
    min_score: float
    nms_iou: float


NETWORKS = {
    network.name: network
    for network in (
        FaceNetwork("centerface", centerface.decode, 0.4, 0.3),
        FaceNetwork("retinaface", retinaface.decode, 0.6, 0.2),
        FaceNetwork("yunet", yunet.decode, 0.7, 0.3),
    )
}
