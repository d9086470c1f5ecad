"""Graphs in 8 bits: nearly float32's results, for every kind of convolution; what is not worth it is left alone."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as graph

from worker.core.openvino import compiled
from worker.training.quantising import BATCH, quantise

SIDE, CHANNELS = 16, 16
Array = np.ndarray


def crops(seed: int, count: int = 64) -> Array:
    """(count, SIDE, SIDE, 1) uint8 of smooth noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, SIDE // 4, SIDE // 4, 1), np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def network(scales: Array, *, depthwise: bool, relu: bool = True, padded: bool = True) -> ov.Model:
    """Pixels -> a stem to 16 channels, whose values spread by `scales`; a convolution of them; a mean."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> Array:
        return (rng.standard_normal(shape) / np.prod(shape[-3:]) ** 0.5).astype(np.float32)

    pixels = graph.parameter([-1, SIDE, SIDE, 1], np.uint8)
    images = graph.convert(graph.transpose(pixels, [0, 3, 1, 2]), np.float32)
    ones, edge = [1, 1], [1, 1] if padded else [0, 0]
    stem = graph.convolution(images, weights(CHANNELS, 1, 3, 3) * scales[:, None, None, None], ones, ones, ones, ones)
    x = graph.relu(stem) if relu else stem
    if depthwise:
        kernel = weights(CHANNELS, 1, 1, 3, 3)
        y = graph.group_convolution(x, kernel, [2, 2], edge, edge, ones)
    else:
        kernel = weights(32, CHANNELS, 3, 3) / scales[:, None, None]
        y = graph.add(graph.convolution(x, kernel, ones, edge, edge, ones), weights(1, 32, 1, 1) * 50)
    return ov.Model([graph.reduce_mean(graph.relu(y), [2, 3], keep_dims=False)], [pixels])


def features(model: ov.Model, given: Array) -> Array:
    return np.asarray(compiled(model, "fp32", threads=1)(given)[0])


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize(("relu", "padded"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("spread", [1.0, 1000.0])
def test_results_are_nearly_float32s(depthwise: bool, relu: bool, padded: bool, spread: float) -> None:
    """On crops that it was not made with, also where channels differ a thousandfold, and where values are signed.

    Signed values that are not padded with zeros have bytes without a sign.
    """
    scales = np.geomspace(1, spread, CHANNELS).astype(np.float32)
    plain, quick = (network(scales, depthwise=depthwise, relu=relu, padded=padded) for _ in range(2))
    assert quantise(quick, crops(1)) == 1
    expected, found = features(plain, crops(2)), features(quick, crops(2))
    alive = expected.std(axis=0) > 0  # ReLU ends some
    error = np.abs(found - expected).mean(axis=0)[alive] / expected.std(axis=0)[alive]
    assert alive.sum() > CHANNELS // 2
    assert 0 < np.median(error) < 0.03
    assert error.max() < 0.2  # of a channel that ReLU nearly ends
    kinds = [node.get_type_name() for node in quick.get_ops()]
    assert kinds.count("FakeQuantize") == 1
    assert any(node.get_element_type() == ov.Type.i8 for node in quick.get_ops() if node.get_type_name() == "Constant")


def test_the_mean_of_each_channel_is_float32s() -> None:
    """Over the crops that it was made with: biases make up for what rounding moves."""
    plain, quick = (network(np.ones(CHANNELS, np.float32), depthwise=False) for _ in range(2))
    given = crops(3, 8 * BATCH)
    quantise(quick, given)
    expected, found = features(plain, given), features(quick, given)
    assert np.abs(found.mean(axis=0) - expected.mean(axis=0)).max() < 0.01 * expected.std(axis=0).max()


def test_the_same_crops_give_the_same_graph() -> None:
    """Positions are drawn with a fixed seed, so that a bundle can be made again."""
    first, second = (network(np.ones(CHANNELS, np.float32), depthwise=False) for _ in range(2))
    for model in (first, second):
        quantise(model, crops(1))
    np.testing.assert_array_equal(features(first, crops(2)), features(second, crops(2)))


def test_a_graph_without_such_convolutions_stays_as_it_is() -> None:
    """A stem of one channel alone."""
    rng = np.random.default_rng(0)
    pixels = graph.parameter([-1, SIDE, SIDE, 1], np.uint8)
    images = graph.convert(graph.transpose(pixels, [0, 3, 1, 2]), np.float32)
    kernel = rng.standard_normal((4, 1, 3, 3)).astype(np.float32)
    model = ov.Model([graph.convolution(images, kernel, [1, 1], [0, 0], [0, 0], [1, 1])], [pixels])
    before = features(model, crops(1))
    assert quantise(model, crops(1)) == 0
    np.testing.assert_array_equal(features(model, crops(1)), before)
