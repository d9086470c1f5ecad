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
import openvino as ov
from openvino import opset15 as graph

from worker.core.openvino import compiled
from worker.core.records import Floats, Image

SIDE = 150  # px
EMBEDDING = 128
# dlib's target positions of landmarks, as fractions of the side: its mean face with a margin of a quarter.
TEMPLATE: Floats = np.array(
    [[0.3170, 0.3107], [0.6699, 0.3107], [0.4934, 0.5104], [0.3361, 0.6868], [0.6507, 0.6868]], np.float32
)
_MEAN_RGB, _SCALE = np.array([122.782, 117.001, 104.298], np.float32), np.array(1 / 256, np.float32)
# Blocks in order; those that end in `down` halve the picture, the last two of them round up.
_BLOCKS = (
    *("conv32_1", "conv32_2", "conv32_3", "conv64_down", "conv64_1", "conv64_2", "conv64_3", "conv128_down"),
    *("conv128_1", "conv128_2", "conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
)
_ROUNDED_UP = ("conv256_down", "conv256_down_out")
_NOTHING = np.array(0, np.float32)

Tensors = Mapping[str, npt.NDArray[np.float32]]


class Identity:
    """The network, on the CPU; concurrent inputs share it."""

    def __init__(self, tensors: Tensors) -> None:
        """tensors: by face-api.js' names, filters as (height, width, in, out).  Raises: KeyError if one is missing."""
        self._network = compiled(_network(tensors), "fp32", threads=1)

    def embed(self, faces: list[Image]) -> Floats:
        """Faces (150, 150, 3) uint8 RGB, aligned to `TEMPLATE` -> (N, 128).  Thread-safe."""
        return np.asarray(self._network.create_infer_request().infer([np.stack(faces)])[0], np.float32)


def _network(tensors: Tensors) -> ov.Model:
    pixels = graph.parameter([-1, SIDE, SIDE, 3], np.uint8)
    images = (graph.convert(graph.transpose(pixels, [0, 3, 1, 2]), np.float32) - _MEAN_RGB[:, None, None]) * _SCALE
    x = graph.relu(_convolution(images, tensors, "conv32_down", halves=True))
    x = graph.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [3, 3]).output(0)  # the other one: where the maxima are
    for name in _BLOCKS:
        x = _block(x, tensors, name)
    mean = graph.reduce_mean(x, [2, 3], keep_dims=False)
    return ov.Model([graph.matmul(mean, tensors["fc"], transpose_a=False, transpose_b=False)], [pixels])


def _block(x: ov.Output | ov.Node, tensors: Tensors, name: str) -> ov.Node:
    halves = "down" in name
    y = _convolution(graph.relu(_convolution(x, tensors, f"{name}/conv1", halves=halves)), tensors, f"{name}/conv2")
    if halves:
        wider = tensors[f"{name}/conv2/conv/filters"].shape[3] - tensors[f"{name}/conv1/conv/filters"].shape[2]
        x = _padded(graph.avg_pool(x, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=True), channels=wider)
    if name in _ROUNDED_UP:
        y = _padded(y, below=1)
    return graph.relu(graph.add(x, y))


def _padded(x: ov.Node, channels: int = 0, below: int = 0) -> ov.Node:
    """Zeros as further channels, and as a row at the bottom and a column at the right."""
    return graph.pad(x, [0, 0, 0, 0], [0, channels, below, below], "constant", _NOTHING)


def _convolution(x: ov.Node, tensors: Tensors, name: str, *, halves: bool = False) -> ov.Node:
    """With the following scale folded in."""
    scale, shift = tensors[f"{name}/scale/weights"], tensors[f"{name}/scale/biases"]
    kernel = np.ascontiguousarray(tensors[f"{name}/conv/filters"].transpose(3, 2, 0, 1) * scale[:, None, None, None])
    bias = (tensors[f"{name}/conv/bias"] * scale + shift)[:, None, None]
    stride, beside = (2, 0) if halves else (1, kernel.shape[2] // 2)
    return graph.convolution(x, kernel, [stride] * 2, [beside] * 2, [beside] * 2, [1, 1]) + bias
