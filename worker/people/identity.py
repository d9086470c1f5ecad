"""The identity network: from an aligned face to an embedding.

The ResNet of dlib (King 2017, dlib_face_recognition_resnet_model_v1), 29 convolutions, as face-api.js converted it; two
faces of one person usually have a distance below 0.6.  Its batch-norms are folded into one scale per channel.

Source: He et al. 2015, Deep Residual Learning (arXiv 1512.03385); github.com/vladmandic/face-api@1.7.15
`src/faceRecognitionNet`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from worker.core.records import Floats, Image

SIDE = 150  # px
EMBEDDING = 128
# dlib's target positions of landmarks, as fractions of the side: its mean face with a margin of a quarter.
TEMPLATE: Floats = np.array(
    [[0.3170, 0.3107], [0.6699, 0.3107], [0.4934, 0.5104], [0.3361, 0.6868], [0.6507, 0.6868]], np.float32
)
Tensors = Mapping[str, npt.NDArray[np.float32]]


class Identity:
    """The network, on the CPU; concurrent inputs share it."""

    def __init__(self, tensors: Tensors) -> None:
        """tensors: by face-api.js' names, filters as (height, width, in, out).  Raises: KeyError if one is missing."""
        from worker.people.identity_graph import compiled_identity  # noqa: PLC0415  # loads OpenVINO

        self._network = compiled_identity(tensors)

    def embed(self, faces: list[Image]) -> Floats:
        """Faces (150, 150, 3) uint8 RGB, aligned to `TEMPLATE` -> (N, 128).  Thread-safe."""
        return np.asarray(self._network.create_infer_request().infer([np.stack(faces)])[0], np.float32)
