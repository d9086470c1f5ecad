"""What the face networks take on one thread of a CPU, by ONNX Runtime and by OpenVINO, and YuNet by OpenCV beside them.

    python -m tests.bench.face_networks [--yunet face_detection_yunet_2023mar.onnx]

Prints one JSON object: milliseconds of processor time, medians of 15, for a 640 x 384 frame and a 96 x 96 view; noise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnx

from model_store.detector import DETECTORS_DIR, StoredDetector, load_detector
from worker.core import malloc
from worker.core.openvino import compiled, core
from worker.faces.networks import NETWORKS
from worker.faces.running import Weights, run_on

SHAPES = {"frame": (384, 640), "view": (96, 96)}
RUNS = 15


def milliseconds(work: Callable[[], object]) -> float:
    """Median of `RUNS`, after two to warm up."""
    work()
    work()
    spent = []
    for _ in range(RUNS):
        before = time.thread_time()
        work()
        spent.append((time.thread_time() - before) * 1000)
    return round(statistics.median(spent), 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yunet", type=Path, help="YuNet's ONNX file, for OpenCV")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    malloc.keep()
    rng = np.random.default_rng(0)
    report: dict[str, dict[str, dict[str, float]]] = {}
    for shape, (height, width) in SHAPES.items():
        pixels = rng.integers(0, 256, (1, height, width, 3), np.uint8)
        planes = cv2.dnn.blobFromImages(list(pixels))
        found: dict[str, dict[str, float]] = {}
        for name in NETWORKS:
            stored = load_detector(DETECTORS_DIR / name)
            by_onnx = run_on(Weights(name, stored.tensors, stored.graph), "cpu")
            found[name] = {"onnxruntime": milliseconds(partial(by_onnx.maps, pixels))}
            for precision in ("fp32", "bf16"):
                model = core().read_model(_with_weights(stored))
                model.reshape(list(planes.shape))
                request = compiled(model, precision, threads=1).create_infer_request()
                found[name][f"openvino {precision}"] = milliseconds(partial(request.infer, [planes]))
        if given.yunet is not None:
            detector = cv2.FaceDetectorYN.create(str(given.yunet), "", (width, height), 0.7)
            found["yunet"]["opencv"] = milliseconds(partial(detector.detect, pixels[0]))
        report[shape] = found
    print(json.dumps(report, indent=1))


def _with_weights(stored: StoredDetector) -> bytes:
    """The detector's ONNX network in one piece."""
    model = onnx.load_from_string(stored.graph)
    for tensor in model.graph.initializer:
        if tensor.name in stored.tensors:
            values = np.ascontiguousarray(stored.tensors[tensor.name])
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
