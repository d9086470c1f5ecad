"""A bundle's ensemble on a CPU: OpenVINO in each precision, beside its backbone in ONNX Runtime and in torch.

    python -m tests.bench.cpu_engines [--bundle default] [--stills valid.npz] [--turns 5]

Prints one JSON object: crops a second of each, in batches of 32 on two threads, as medians of runs in turns, and the
greatest difference between OpenVINO's probabilities in fp32 and the plain networks'.  With `--stills`, in the layout
that `worker evaluate` takes, also how often each precision gives the label of fp32, and its accuracy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from model_store.bundle import find_bundle, load_bundle
from worker.core import malloc
from worker.core.folding import for_inference
from worker.ensemble.fusion import fuse_at
from worker.ensemble.networks import Ensemble
from worker.ensemble.openvino_runtime import OpenVinoRuntime
from worker.ensemble.precision import Precision
from worker.inference.bundles import build_ensemble
from worker.inference.graphs import open_runtime
from worker.inference.specs import crop_shape, crop_spec
from worker.training.labelled import labelled_stills

BATCH, THREADS, SECONDS = 32, 2, 2.0
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
Crops = npt.NDArray[np.uint8]


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--stills", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    malloc.keep()
    torch.set_num_threads(THREADS)
    warnings.simplefilter("ignore")
    folder = find_bundle(given.bundle)
    bundle = load_bundle(folder)
    manifest, ensemble = bundle.manifest, build_ensemble(bundle)
    with_int8 = manifest.graphs is not None and manifest.graphs.int8 is not None
    chosen = PRECISIONS if with_int8 else PRECISIONS[:-1]
    runtimes = {precision: open_runtime(folder, precision, THREADS) for precision in chosen}
    noise = np.random.default_rng(0).integers(0, 256, (BATCH, *crop_shape(manifest.input)), np.uint8)
    runs: dict[str, Callable[[], object]] = {
        f"openvino {precision}": lambda runtime=runtime: runtime.encode(list(noise))  # type: ignore[misc]
        for precision, runtime in runtimes.items()
    }
    found: dict[str, Any] = {
        "bundle": f"{manifest.name} {manifest.version}",
        "openvino": version("openvino"),
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "threads": THREADS,
        "max_abs_probability_difference": _difference(ensemble, runtimes["fp32"], noise[: ensemble.window]),
    }
    with tempfile.TemporaryDirectory() as name:
        runs |= _others(ensemble, noise, Path(name) / "backbone.onnx")
    found["crops_per_s"] = _speed(runs, given.turns)
    if given.stills is not None:
        data = labelled_stills(given.stills, crop_spec(manifest.input), manifest.labels, manifest.window)
        crops = torch.cat(list(data.crops())).numpy()
        found["labels"] = _labels(ensemble, runtimes, crops, data.truths["ferplus"])
    print(json.dumps(found, indent=2))
    return 0


def _others(ensemble: Ensemble, pixels: Crops, path: Path) -> dict[str, Callable[[], object]]:
    """The first backbone alone, in ONNX Runtime and in torch."""
    backbone = next(iter(ensemble.backbones.values())).eval()
    with torch.inference_mode():
        images = ensemble.normalise(torch.from_numpy(pixels)).contiguous()
    names: dict[str, Any] = {"input_names": ["images"], "dynamic_axes": {"images": {0: "n"}}}
    torch.onnx.export(backbone, (images,), path, dynamo=False, opset_version=17, **names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = THREADS, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    folded = for_inference(backbone, images)
    last = images.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def in_torch() -> object:
        return folded(last)

    return {"onnxruntime fp32": lambda: session.run(None, {"images": images.numpy()}), "torch fp32": in_torch}


def _difference(ensemble: Ensemble, runtime: OpenVinoRuntime, window: Crops) -> float:
    expected = ensemble.window_probabilities(torch.from_numpy(window))
    rows = np.arange(len(window))[None]
    own = runtime.probabilities(runtime.encode(list(window)), rows)
    return max(float(np.abs(own[i, 0] - values.numpy()).max()) for i, values in enumerate(expected.values()))


def _speed(runs: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            run()
            count, started = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - started) < SECONDS:
                run()
                count += BATCH
            rates[name].append(count / elapsed)
    return {name: round(statistics.median(values), 1) for name, values in rates.items()}


def _labels(
    ensemble: Ensemble, runtimes: dict[Precision, OpenVinoRuntime], crops: Crops, truth: npt.NDArray[np.int64]
) -> dict[str, dict[str, float]]:
    """Of the ensemble on stills that fill a window each."""
    weights = np.array([member.weight for member in ensemble.members], np.float32)
    given = truth >= 0
    found: dict[str, dict[str, float]] = {}
    plain = None
    for precision, runtime in runtimes.items():
        parts = []
        for start in range(0, len(crops), BATCH):
            states = runtime.encode(list(crops[start : start + BATCH]))
            rows = np.arange(len(crops[start : start + BATCH]))[:, None].repeat(ensemble.window, axis=1)
            own = runtime.probabilities(states, rows)
            parts.append(fuse_at(own, weights, ensemble.prior, None)[0])
        labels = np.concatenate(parts).argmax(axis=1)
        plain = labels if plain is None else plain
        found[precision] = {
            "agreement": round(float((labels == plain).mean()), 4),
            "accuracy": round(float((labels == truth)[given].mean()), 4),
        }
    return found


if __name__ == "__main__":
    sys.exit(main())
