"""Run a network: ONNX Runtime on a CPU, torch on a GPU.

ONNX Runtime is up to twice as fast as torch's fused convolutions on frames, and more than ten times on YuNet's views of
single faces, where call overhead exceeds the arithmetic (`docs/faces.md`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import nn

from worker.core.conv_fusion import for_inference
from worker.core.devices import on_device
from worker.faces.networks import NETWORKS, FaceNetwork
from worker.faces.networks.cells import Array

Tensors = Mapping[str, npt.NDArray[np.float32]]
ERROR = 3  # ONNX Runtime's severity; its warnings are about graphs and not useful to an operator


@dataclass(frozen=True)
class Weights:
    """A verified network.  kind: a key of `NETWORKS`.  graph: ONNX, with initialisers named as the tensors."""

    kind: str
    tensors: Tensors
    graph: bytes


class Running(Protocol):
    """A network on its device."""

    kind: FaceNetwork

    def maps(self, pixels: npt.NDArray[np.uint8]) -> Sequence[Array]:
        """The network's output maps (B, C, h, w) float32 for RGB (B, H, W, 3) uint8; H, W multiples of 32."""


def run_on(weights: Weights, device: torch.device) -> Running:
    """Load the network.  Raises: RuntimeError if the weights do not fit the network."""
    return _OnCpu(weights) if device.type == "cpu" else _OnGpu(weights, device)


class _OnCpu:
    def __init__(self, weights: Weights) -> None:
        self.kind = NETWORKS[weights.kind]
        options = onnxruntime.SessionOptions()
        # A second thread gains less than a third and takes a whole core from decoding and the ensemble.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = ERROR
        names = list(weights.tensors)
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(weights.tensors[n])) for n in names]
        options.add_external_initializers(names, values)
        try:
            self._session = onnxruntime.InferenceSession(weights.graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            raise RuntimeError(str(error)) from None
        (self._input,) = (given.name for given in self._session.get_inputs())

    def maps(self, pixels: npt.NDArray[np.uint8]) -> Sequence[Array]:
        planes = cv2.dnn.blobFromImages(list(pixels))  # (B, 3, H, W) float32; NumPy takes three times as long
        found: Sequence[Array] = self._session.run(None, {self._input: planes})
        return found


class _OnGpu:
    def __init__(self, weights: Weights, device: torch.device) -> None:
        self.kind = NETWORKS[weights.kind]
        network = self.kind.build()
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.tensors.items()})
        self._device = device
        example = torch.zeros((1, 3, 64, 64), device=device).contiguous(memory_format=torch.channels_last)
        self._network: nn.Module = for_inference(network.requires_grad_(requires_grad=False), example)
        # cuDNN caches plans per thread: with a thread for each job, every job would build all of them again.
        self._thread = ThreadPoolExecutor(1, "detector")  # ends with this object

    def maps(self, pixels: npt.NDArray[np.uint8]) -> Sequence[Array]:
        return self._thread.submit(self._maps, pixels).result()

    @torch.inference_mode()
    def _maps(self, pixels: npt.NDArray[np.uint8]) -> Sequence[Array]:
        with on_device(self._device), torch.autocast(self._device.type, torch.float16):
            frames = torch.from_numpy(pixels).to(self._device, non_blocking=True)
            found = self._network(frames.permute(0, 3, 1, 2).float())
            return [each.float().cpu().numpy() for each in found]
