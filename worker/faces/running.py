"""Run a network: ONNX Runtime on a CPU, torch (`running_torch`) on a GPU.

ONNX Runtime is faster than OpenVINO on YuNet's views of single faces, where call overhead exceeds the arithmetic, and
equal on frames (`docs/faces.md`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

from worker.core.devices import CPU
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


def run_on(weights: Weights, device: str) -> Running:
    """Load the network.  Raises: RuntimeError if the weights do not fit the network."""
    if device == CPU:
        return _OnCpu(weights)
    from worker.faces.running_torch import OnGpu  # noqa: PLC0415  # loads torch

    return OnGpu(weights, device)


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
