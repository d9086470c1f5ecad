"""What the face networks take on one thread of a CPU, by ONNX Runtime and by torch, and YuNet by OpenCV beside them.

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
import torch

from model_store.detector import DETECTORS_DIR, load_detector
from worker.core import malloc
from worker.core.conv_fusion import for_inference
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
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    malloc.keep()
    rng = np.random.default_rng(0)
    report: dict[str, dict[str, dict[str, float]]] = {}
    for shape, (height, width) in SHAPES.items():
        pixels = rng.integers(0, 256, (1, height, width, 3), np.uint8)
        planes = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
        found: dict[str, dict[str, float]] = {}
        for name, network in NETWORKS.items():
            stored = load_detector(DETECTORS_DIR / name)
            by_onnx = run_on(Weights(name, stored.tensors, stored.graph), torch.device("cpu"))
            module = network.build()
            module.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in stored.tensors.items()})
            by_torch = for_inference(module.requires_grad_(requires_grad=False), planes)
            with torch.inference_mode():
                found[name] = {
                    "onnxruntime": milliseconds(partial(by_onnx.maps, pixels)),
                    "torch": milliseconds(partial(by_torch, planes)),
                }
        if given.yunet is not None:
            detector = cv2.FaceDetectorYN.create(str(given.yunet), "", (width, height), 0.7)
            found["yunet"]["opencv"] = milliseconds(partial(detector.detect, pixels[0]))
        report[shape] = found
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
