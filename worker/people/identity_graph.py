"""The identity network as an OpenVINO graph, built of its tensors."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset15 as graph

from worker.core.openvino import compiled
from worker.people.identity import SIDE, Tensors

_MEAN_RGB, _SCALE = np.array([122.782, 117.001, 104.298], np.float32), np.array(1 / 256, np.float32)
# Blocks in order; those that end in `down` halve the picture, the last two of them round up.
_BLOCKS = (
    *("conv32_1", "conv32_2", "conv32_3", "conv64_down", "conv64_1", "conv64_2", "conv64_3", "conv128_down"),
    *("conv128_1", "conv128_2", "conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
)
_ROUNDED_UP = ("conv256_down", "conv256_down_out")
_NOTHING = np.array(0, np.float32)


def compiled_identity(tensors: Tensors) -> ov.CompiledModel:
    """Faces (N, 150, 150, 3) uint8 RGB -> (N, 128) float32.  tensors: see `Identity`.  Raises: KeyError."""
    return compiled(_network(tensors), "fp32", threads=1)


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
