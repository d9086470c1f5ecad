"""Quantise a convolutional OpenVINO graph to 8 bits after training, so that it gives nearly the same results.

Each convolution, in order:

1. Its input becomes bytes with a step of its own for each channel, by a FakeQuantize with ranges by channel and one
   range of results; the steps are multiplied into the weights.  One step for all channels is far less exact.
2. Its weights become int8 with one scale for each output channel.  First they are fitted by least squares to the
   float32 network's output on the inputs that the quantised convolutions before it leave.  Then they are rounded column
   by column, and the columns that follow compensate for the error.
3. Its bias is set so that the mean of each output channel is that of float32.

Convolutions that read few channels, and matrix products, stay as they are.  Processors without VNNI saturate sums of
two products, for which there is no room in these graphs.
Source of the rounding: Frantar et al. 2022, GPTQ (arXiv 2210.17323).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from numpy.lib.stride_tricks import sliding_window_view
from openvino import opset15 as graph

from worker.core.openvino import compiled

BATCH = 16  # crops that are run at once
ROWS = 16384  # positions of a convolution that are read, over all crops
FEW_CHANNELS = 8
LARGEST = 127  # of a weight
COVER = 1.1  # ranges, relative to the extremes seen: one that is too small costs far more than one too large
FIT, ROUND = 0.1, 0.01  # ridges of least squares and of rounding, relative to the mean of the diagonal
COLUMNS = 64  # rounded before the columns after them are updated
STEPS = 255

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Crops = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Read:
    """What a convolution reads.  values: (n, C, kh, kw) at random positions.  low, high: (C,) extremes."""

    values: Floats
    low: Doubles
    high: Doubles


@dataclass(frozen=True)
class _Bytes:
    """How a convolution's input becomes bytes: channel c's byte b stands for lowest[c] + (b - zero) * step[c].

    zero: the smallest byte, one for all channels: 0, or -128 for signed bytes.
    """

    step: Doubles
    lowest: Doubles
    zero: int

    def of(self, values: Floats) -> Floats:
        """(n, C, kh, kw) -> the same in bytes, as float32."""
        offset = (self.lowest - self.zero * self.step).astype(np.float32)[:, None, None]
        step = self.step.astype(np.float32)[:, None, None]
        return np.clip(np.round((values - offset) / step), self.zero, self.zero + STEPS)


@dataclass(frozen=True)
class _Solved:
    """A convolution in integers.  weights: (O, I) int8.  scale, bias: (O,)."""

    weights: npt.NDArray[np.int8]
    scale: Doubles
    bias: Doubles


def quantise(model: ov.Model, crops: Crops) -> int:
    """Quantise the convolutions of a graph in place.  Returns their number.

    model: its one input is (N, size, size, C) uint8; weights are constants.  crops: at least `BATCH` typical ones.
    """
    plain, count = model.clone(), 0
    before = {node.get_friendly_name(): node for node in plain.get_ops()}
    for conv in model.get_ordered_ops():
        kernel = _kernel(conv)
        if kernel is None:
            continue
        wanted = _read(plain, before[conv.get_friendly_name()], crops).values
        given = _read(model, conv, crops)
        attributes = conv.get_attributes()
        how = _bytes(given, padded=any([*attributes["pads_begin"], *attributes["pads_end"]]))
        _replace(conv, how, kernel.shape, _solved(kernel, wanted, how.of(given.values), how.step))
        count += 1
    model.validate_nodes_and_infer_types()
    return count


def _kernel(conv: ov.Node) -> Doubles | None:
    """The weights of a convolution that can be quantised: (O, I, kh, kw), or (O, 1, 1, kh, kw) where depthwise."""
    if conv.get_type_name() not in {"Convolution", "GroupConvolution"}:
        return None
    constant = conv.input_value(1).get_node()
    if constant.get_type_name() != "Constant":
        return None
    kernel: Doubles = constant.get_data().astype(np.float64)
    depthwise = conv.get_type_name() == "GroupConvolution"
    if conv.get_attributes()["dilations"] != [1, 1]:
        return None
    fits = kernel.shape[1:3] == (1, 1) if depthwise else kernel.shape[1] >= FEW_CHANNELS
    return kernel if fits else None


def _read(model: ov.Model, conv: ov.Node, crops: Crops) -> _Read:
    part = ov.Model([conv.input_value(0)], model.get_parameters()).clone()
    part.reshape([BATCH, *crops.shape[1:]])
    request = compiled(part, "fp32", threads=1).create_infer_request()
    attributes, random = conv.get_attributes(), np.random.default_rng(0)
    edges = [(0, 0), (0, 0), *zip(attributes["pads_begin"], attributes["pads_end"], strict=True)]
    down, across = attributes["strides"]
    size = tuple(conv.input_value(1).get_shape()[-2:])
    found, lows, highs = [], [], []
    for start in range(0, len(crops) - BATCH + 1, BATCH):
        request.infer([crops[start : start + BATCH]])
        values = request.get_output_tensor(0).data
        lows.append(values.min(axis=(0, 2, 3)))
        highs.append(values.max(axis=(0, 2, 3)))
        views = sliding_window_view(np.pad(values, edges), size, axis=(2, 3))[:, :, ::down, ::across]
        height, width = views.shape[2:4]
        count = min(max(ROWS // len(crops), 1), height * width)
        at = np.concatenate([random.choice(height * width, count, replace=False) for _ in range(BATCH)])
        found.append(views[np.repeat(np.arange(BATCH), count), :, at // width, at % width])
    low, high = np.min(lows, axis=0).astype(np.float64), np.max(highs, axis=0).astype(np.float64)
    return _Read(np.concatenate(found), low, high)


def _bytes(given: _Read, *, padded: bool) -> _Bytes:
    """padded: the convolution pads with zeros, which need a byte of their own."""
    low, high, zero = given.low, given.high, 0
    if low.min() >= 0:
        low, size = np.zeros_like(low), high * COVER
    elif padded:
        zero, size = -128, np.maximum(high, -low) * COVER * STEPS / 127
    else:
        size = (high - low) * COVER
        low = (low + high - size) / 2
    step = np.maximum(size, 1e-4 * size.max() + 1e-12) / STEPS
    return _Bytes(step, -128 * step if zero else low, zero)


def _solved(kernel: Doubles, wanted: Floats, seen: Floats, step: Doubles) -> _Solved:
    """wanted, seen: (n, C, kh, kw), the input in float32 and in bytes of `step`."""
    count = len(seen)
    wanted, seen = wanted.reshape(count, len(step), -1), seen.reshape(count, len(step), -1)
    if kernel.ndim == 4:
        flat, steps = kernel.reshape(len(kernel), -1), np.repeat(step, kernel[0, 0].size)
        return _rounded(flat, wanted.reshape(count, -1), seen.reshape(count, -1), steps, fit=True)
    # Depthwise: each channel is a convolution of its own, with too few weights to fit.
    parts = [
        _rounded(weights.reshape(1, -1), wanted[:, c], seen[:, c], step[c], fit=False)
        for c, weights in enumerate(kernel)
    ]
    scale, bias = (np.concatenate(values) for values in zip(*((part.scale, part.bias) for part in parts), strict=True))
    return _Solved(np.concatenate([part.weights for part in parts]), scale, bias)


def _rounded(weights: Doubles, wanted: Floats, seen: Floats, steps: Doubles | float, *, fit: bool) -> _Solved:
    """weights: (O, I).  wanted, seen: (n, I).  fit: whether to change the weights by least squares before."""
    target, mean = wanted @ weights.T.astype(np.float32), seen.mean(axis=0)
    centred, weights = seen - mean, weights * steps
    gram = (centred.T @ centred).astype(np.float64) / len(seen)
    unit = np.diag(gram).mean() + 1e-9
    if fit:
        rest = target - target.mean(axis=0) - centred @ weights.T.astype(np.float32)
        weights = weights + np.linalg.solve(gram + FIT * unit * np.eye(len(gram)), centred.T @ rest / len(seen)).T
    scale = np.abs(weights).max(axis=1) / LARGEST + 1e-12
    order = np.argsort(-np.diag(gram))  # the columns that count most are rounded first
    inverse = np.linalg.inv(gram[np.ix_(order, order)] + ROUND * unit * np.eye(len(gram)))
    upper, left = np.linalg.cholesky(inverse).T, weights[:, order]
    found = np.empty_like(weights)
    for start in range(0, len(order), COLUMNS):
        stop = min(start + COLUMNS, len(order))
        errors = np.empty((len(weights), stop - start))
        for i in range(start, stop):
            found[:, order[i]] = np.clip(np.round(left[:, i] / scale), -LARGEST, LARGEST)
            errors[:, i - start] = (left[:, i] - found[:, order[i]] * scale) / upper[i, i]
            left[:, i:stop] -= np.outer(errors[:, i - start], upper[i, i:stop])
        left[:, stop:] -= errors @ upper[start:stop, stop:]
    return _Solved(found.astype(np.int8), scale, target.mean(axis=0) - (found * scale[:, None]) @ mean)


def _replace(conv: ov.Node, how: _Bytes, shape: Sequence[int], solved: _Solved) -> None:
    """Quantise the convolution's input and weights, and put the bias behind it."""
    readers = list(conv.output(0).get_target_inputs())
    low, high = (_constant(values.reshape(1, -1, 1, 1)) for values in (how.lowest, how.lowest + STEPS * how.step))
    least, most = (_constant(np.array(value)) for value in (how.zero, how.zero + STEPS))
    given = graph.fake_quantize(conv.input_value(0), low, high, least, most, STEPS + 1)
    weights = graph.convert(graph.constant(solved.weights.reshape(shape)), np.float32)
    conv.input(0).replace_source_output(given.output(0))
    scale = _constant(solved.scale.reshape(-1, *[1] * (len(shape) - 1)))
    conv.input(1).replace_source_output(graph.multiply(weights, scale).output(0))
    bias = solved.bias.reshape(1, -1, 1, 1)
    after = readers[0].get_node()
    present = after.input_value(1).get_node() if len(readers) == 1 and after.get_type_name() == "Add" else None
    if present is not None and present.get_type_name() == "Constant":
        after.input(1).replace_source_output(_constant(present.get_data() + bias).output(0))
        return
    moved = graph.add(conv.output(0), _constant(bias))
    for reader in readers:
        reader.replace_source_output(moved.output(0))


def _constant(values: npt.NDArray[Any]) -> ov.Node:
    return graph.constant(np.asarray(values, np.float32))
