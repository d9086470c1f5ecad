"""An ensemble as the two graphs of `openvino_runtime`.  Needs torch; serving on a CPU does not.

The encoding graph has the backbones' tensors as inputs, so that it is small, and CPU and GPU serve with the same file
of weights: `with_weights` puts them in.  The heads' few weights are constants of the graphs, in the form for streaming.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import openvino as ov
import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from worker.core.openvino import compiled, with_weights
from worker.ensemble.networks import Ensemble, stored_tensors
from worker.ensemble.precision import Precision
from worker.ensemble.streaming import stream_head

EXAMPLES = 3  # crops, and windows of them, to convert and to check with
TOLERANCE = 1e-4  # of probabilities


class ConversionError(Exception):
    """The graphs do not compute what the networks do."""


@dataclass(frozen=True)
class Graphs:
    """See `OpenVinoRuntime`.  Beside pixels, `encoding` has an input for each of the backbones' tensors."""

    encoding: ov.Model
    decoding: ov.Model


class _Encoding(nn.Module):
    def __init__(self, ensemble: Ensemble, heads: nn.ModuleList) -> None:
        super().__init__()
        self.normalise, self.heads = ensemble.normalise, heads
        self.backbones = tuple(ensemble.backbones.values())  # a tuple: tracing does not see their tensors
        keys = list(ensemble.backbones)
        self.reads = [keys.index(member.backbone) for member in ensemble.members]

    def forward(self, pixels: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        images, given = self.normalise(pixels), iter(tensors)
        features = []
        for backbone in self.backbones:
            own = copy.deepcopy(backbone) if tensors else backbone
            for name in stored_tensors(backbone) if tensors else ():
                # As plain attributes, which tracing follows; `torch.func.functional_call` refuses to be traced.
                path, _, leaf = name.rpartition(".")
                layer = own.get_submodule(path)
                delattr(layer, leaf)
                setattr(layer, leaf, next(given))
            features.append(own(images))
        return tuple(head.encode(features[read]) for head, read in zip(self.heads, self.reads, strict=True))  # type: ignore[operator]


@torch.inference_mode()
def constant_encoding(ensemble: Ensemble, crop_shape: tuple[int, int, int]) -> ov.Model:
    """The encoding graph with the backbones' weights as constants, no batch-norms.  crop_shape: (size, size, C)."""
    pixels = torch.zeros((EXAMPLES, *crop_shape), dtype=torch.uint8)
    return _traced(_Encoding(ensemble, _streams(ensemble)).eval(), (pixels,), [pixels.shape[1:]])


def _streams(ensemble: Ensemble) -> nn.ModuleList:
    return nn.ModuleList(stream_head(copy.deepcopy(member.head), ensemble.window) for member in ensemble.members)


def on_cpu(backbone: nn.Module, images: Tensor, precision: Precision) -> Callable[[Tensor], Tensor]:
    """The backbone in OpenVINO on all of PyTorch's threads: (N, C, H, W) float -> (N, D) float32, for any N.

    images: examples.
    """
    model = _traced(copy.deepcopy(backbone).eval(), (images.float(),), [images.shape[1:]])
    request = compiled(model, precision, torch.get_num_threads()).create_infer_request()
    return lambda given: torch.from_numpy(request.infer([given.float().contiguous().numpy()])[0])


def _traced(module: nn.Module, examples: tuple[Tensor, ...], rows: list[torch.Size]) -> ov.Model:
    """rows: shapes of the first inputs without their first dimension, which is free; the others' are fixed."""
    shapes = [ov.PartialShape([ov.Dimension(), *row]) for row in rows]
    shapes += [ov.PartialShape(tensor.shape) for tensor in examples[len(rows) :]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)  # sizes are constants of a bundle
        warnings.simplefilter("ignore", DeprecationWarning)  # OpenVINO uses `torch.jit.trace`
        return ov.convert_model(module, example_input=examples, input=shapes)


class _Decoding(nn.Module):
    def __init__(self, ensemble: Ensemble, heads: nn.ModuleList) -> None:
        super().__init__()
        self.heads = heads
        self.temperatures = [member.temperature for member in ensemble.members]

    def forward(self, windows: Tensor, *states: Tensor) -> Tensor:
        found = []
        for head, own, temperature in zip(self.heads, states, self.temperatures, strict=True):
            found.append(torch.softmax(head.decode(own, windows) / temperature, dim=-1))  # type: ignore[operator]
        return torch.stack(found)


@torch.inference_mode()
def converted(ensemble: Ensemble, crop_shape: tuple[int, int, int]) -> Graphs:
    """The graphs in float32; their probabilities are checked to be the networks'.

    crop_shape: (size, size, C).  Raises: ConversionError.
    """
    heads = _streams(ensemble)
    encoding, decoding = _Encoding(ensemble, heads).eval(), _Decoding(ensemble, heads).eval()
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (EXAMPLES, *crop_shape), np.uint8))
    windows = torch.from_numpy(rng.integers(0, EXAMPLES, (EXAMPLES, ensemble.window)))
    tensors = {
        f"{key}.{name}": value
        for key, backbone in ensemble.backbones.items()
        for name, value in stored_tensors(backbone).items()
    }
    states = encoding(pixels, *tensors.values())
    expected = decoding(windows, *states).numpy()
    read = (windows, *states)
    graphs = Graphs(
        _traced(encoding, (pixels, *tensors.values()), [pixels.shape[1:]]),
        _traced(decoding, read, [rows.shape[1:] for rows in read]),
    )
    for given, name in zip(graphs.encoding.inputs[1:], tensors, strict=True):
        given.get_node().set_friendly_name(name)
    filled = with_weights(graphs.encoding.clone(), {name: value.numpy() for name, value in tensors.items()})
    encoded = compiled(filled, "fp32", 1)(pixels.numpy())
    found = compiled(graphs.decoding, "fp32", 1)([windows.numpy(), *encoded.values()])[0]
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise ConversionError(f"the graphs' probabilities differ by {difference:.2g} from the networks'")
    return graphs
