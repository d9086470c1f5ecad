"""OpenVINO on the CPU: its one core, the reading of graphs, their compilation.

Source: docs.openvino.ai, CPU device.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from worker.core.devices import BF16_FLAGS, cpu_has, first_line

LOWER = 9  # steps of niceness


@cache
def core() -> ov.Core:
    """The process's only one."""
    return ov.Core()


def read(topology: bytes, constants: bytes) -> ov.Model:
    """A graph from OpenVINO's two files, .xml and .bin.  Raises: ValueError if they are none."""
    try:
        weights = ov.Tensor(np.frombuffer(constants, np.uint8))
        return core().read_model(topology, weights)
    except RuntimeError as error:
        raise ValueError(first_line(error)) from None


def with_weights(model: ov.Model, tensors: Mapping[str, npt.NDArray[Any]]) -> ov.Model:
    """The model itself, with constants in place of all inputs but the first, the pixels.

    tensors: by the inputs' names, of any float type.  Raises: ValueError if one is missing or has another shape.
    """
    for parameter in model.get_parameters()[1:]:
        name = parameter.get_friendly_name()
        if name in tensors and not np.isfinite(tensors[name]).all():
            raise ValueError(f"{name!r} holds values that are not numbers")
        if name not in tensors or list(tensors[name].shape) != list(parameter.get_output_shape(0)):
            raise ValueError(f"{name!r} of the graph is not in the weights, or has another shape")
        constant = ov.op.Constant(np.ascontiguousarray(tensors[name], np.float32))
        parameter.output(0).replace(constant.output(0))
        model.remove_parameter(parameter)
    return model


def compiled(model: ov.Model, precision: str, threads: int, streams: int = 1) -> ov.CompiledModel:
    """The model for the CPU.

    precision: fp32, bf16, or int8 for a quantised model, whose other layers are then bf16 or fp32.
    streams: number of requests that run side by side; they share the threads evenly.
    OpenVINO's threads have a lower priority than decoding and detection, whose results they need: with equal priorities
    they slow those down, and then wait for them.
    Raises: RuntimeError if OpenVINO cannot compile the model.
    """
    half = precision == "bf16" or (precision == "int8" and cpu_has(BF16_FLAGS))
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        "ENABLE_CPU_PINNING": False,  # decoding and detection need cores, too
    }
    with ThreadPoolExecutor(1, "compile", _lower_priority) as pool:  # OpenVINO's threads inherit its priority
        return pool.submit(core().compile_model, model, "CPU", options).result()


def _lower_priority() -> None:
    """Lower the calling thread's priority, where threads have one of their own."""
    if sys.platform == "linux":
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(nice + LOWER, 19))
