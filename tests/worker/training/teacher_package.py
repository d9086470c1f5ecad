"""A package of the layout of @vladmandic/face-api, with random weights."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np

SIZES = (32, 64, 128, 256)


def random_weights(seed: int) -> dict[str, np.ndarray]:
    """By the package's names, float32; TensorFlow's (H, W, in, out), or (H, W, in, 1) for depthwise ones."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {}
    for k, size in enumerate(SIZES):
        for unit in range(4):
            name, before = f"dense{k}/conv{unit}", SIZES[max(k - 1, 0)] if unit == 0 else size
            if k == unit == 0:
                shapes[f"{name}/filters"] = (3, 3, 3, size)
            else:
                shapes |= {
                    f"{name}/depthwise_filter": (3, 3, before, 1),
                    f"{name}/pointwise_filter": (1, 1, before, size),
                }
            shapes[f"{name}/bias"] = (size,)
    shapes |= {"fc/weights": (SIZES[-1], 7), "fc/bias": (7,)}
    return {name: rng.normal(0, _spread(name, shape), shape).astype(np.float32) for name, shape in shapes.items()}


def _spread(name: str, shape: tuple[int, ...]) -> float:
    """Such that values neither grow nor fade on their way through the layers."""
    if name.endswith("bias"):
        return 0.1
    if name.endswith("depthwise_filter"):
        return 1 / 3
    return float(1.0 / np.sqrt(np.prod(shape[:-1])))


def write_package(path: Path, weights: dict[str, np.ndarray]) -> Path:
    """As npm packs it; weights in full precision, as the biases of the published one are."""
    entries = [{"name": name, "shape": list(values.shape), "dtype": "float32"} for name, values in weights.items()]
    files = {
        "face_expression_model-weights_manifest.json": json.dumps([{"weights": entries}]).encode(),
        "face_expression_model.bin": b"".join(values.tobytes() for values in weights.values()),
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/model/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
