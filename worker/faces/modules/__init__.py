"""The face detection networks as plain torch modules, for a GPU and for the import of their weights.

Every module takes (B, 3, H, W) float RGB in 0..255, H and W multiples of `worker.faces.networks.MULTIPLE`, and returns
the maps that its namesake in `worker.faces.networks` decodes.
"""

from __future__ import annotations

from torch import nn

from worker.faces.modules import centerface, retinaface, yunet

MODULES: dict[str, type[nn.Module]] = {
    "centerface": centerface.CenterFaceNet,
    "retinaface": retinaface.RetinaFaceNet,
    "yunet": yunet.YuNetNet,
}
