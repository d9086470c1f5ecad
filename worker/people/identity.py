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
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.core.conv_fusion import FEW, for_inference
from worker.core.records import Floats, Image

SIDE = 150  # px
EMBEDDING = 128
# dlib's target positions of landmarks, as fractions of the side: its mean face with a margin of a quarter.
TEMPLATE: Floats = np.array(
    [[0.3170, 0.3107], [0.6699, 0.3107], [0.4934, 0.5104], [0.3361, 0.6868], [0.6507, 0.6868]], np.float32
)
_MEAN_RGB = (122.782, 117.001, 104.298)
# Blocks in order; those that end in `down` halve the picture, the last two of them round up.
_BLOCKS = (
    *("conv32_1", "conv32_2", "conv32_3", "conv64_down", "conv64_1", "conv64_2", "conv64_3", "conv128_down"),
    *("conv128_1", "conv128_2", "conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
)
_ROUNDED_UP = ("conv256_down", "conv256_down_out")

Tensors = Mapping[str, npt.NDArray[np.float32]]


class Identity:
    """The network, on the CPU."""

    def __init__(self, tensors: Tensors) -> None:
        """tensors: by face-api.js' names, filters as (height, width, in, out).  Raises: KeyError if one is missing."""
        network = _Network(tensors).eval().requires_grad_(False)
        self._network = for_inference(
            network, torch.zeros(FEW + 1, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
        )

    def embed(self, faces: list[Image]) -> Floats:
        """Faces (150, 150, 3) uint8 RGB, aligned to `TEMPLATE` -> (N, 128)."""
        pictures = torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).float()  # (N, 3, 150, 150), channels last
        with torch.inference_mode():
            return np.asarray(self._network((pictures - torch.tensor(_MEAN_RGB)[:, None, None]) / 256).numpy())


class _Block(nn.Module):
    def __init__(self, tensors: Tensors, name: str) -> None:
        super().__init__()
        self._halves, self._rounded_up = "down" in name, name in _ROUNDED_UP
        self.conv1 = _convolution(tensors, f"{name}/conv1", halves=self._halves)
        self.conv2 = _convolution(tensors, f"{name}/conv2")
        self._wider = self.conv2.out_channels - self.conv1.in_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        if self._halves:
            x = F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, 0, self._wider))
        if self._rounded_up:
            y = F.pad(y, (0, 1, 0, 1))
        return F.relu(x + y)


class _Network(nn.Module):
    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        self.first = _convolution(tensors, "conv32_down", halves=True)
        self.blocks = nn.Sequential(*(_Block(tensors, name) for name in _BLOCKS))
        self.last = nn.Linear(256, EMBEDDING, bias=False)
        self.last.weight.data = torch.from_numpy(np.ascontiguousarray(tensors["fc"].T))

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.max_pool2d(F.relu(self.first(x)), 3, 2))
        return self.last(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def _convolution(tensors: Tensors, name: str, *, halves: bool = False) -> nn.Conv2d:
    """The convolution with the following scale folded in."""
    scale, shift = tensors[f"{name}/scale/weights"], tensors[f"{name}/scale/biases"]
    kernel = tensors[f"{name}/conv/filters"].transpose(3, 2, 0, 1) * scale[:, None, None, None]
    out, channels, size, _ = kernel.shape
    made = nn.Conv2d(channels, out, size, stride=2 if halves else 1, padding=0 if halves else size // 2)
    made.weight.data = torch.from_numpy(np.ascontiguousarray(kernel))
    made.bias = nn.Parameter(torch.from_numpy(tensors[f"{name}/conv/bias"] * scale + shift))
    return made
