"""A bundle's backbone on a CPU by PyTorch's fused pass, by ONNX Runtime, and by ONNX Runtime in int8.

    python -m tests.bench.cpu_engines [--bundle default] [--stills valid.npz --calibration train.npz] [--turns 5]

Prints one JSON object: crops a second of each engine, at the batch of 32 and as medians of runs in turns, and the
greatest difference of ONNX Runtime's features in fp32.  With `--stills`, in the layout that `worker evaluate` takes,
also how often each variant gives the ensemble's label of fp32, and its accuracy.  int8 is post-training:
weights by channel, activations by tensor, calibrated on 512 of the `--calibration` stills.  PyTorch in
fp32, with weights or the inputs of convolutions rounded to few bits, shows which rounding changes labels.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from model_store.bundle import find_bundle, load_bundle
from worker.core import malloc
from worker.core.conv_fusion import fold, for_inference
from worker.ensemble.fusion import fuse_at
from worker.ensemble.networks import Ensemble
from worker.inference.bundles import build_ensemble, crop_spec
from worker.training.labelled import labelled_stills
from worker.training.temporal import WindowSet, centre_logits

BATCH, THREADS, SECONDS = 32, 2, 2.0
CALIBRATION, PERCENTILE = 512, 99.99
Floats = npt.NDArray[np.float32]
# What is rounded: kernels of one pixel or all; the bits of activations; the bits of weights.
ROUNDED = {
    "rounded: activations, 8 bits": (False, 8, 0),
    "rounded: activations, 9 bits": (False, 9, 0),
    "rounded: activations, 10 bits": (False, 10, 0),
    "rounded: pointwise activations, 8 bits": (True, 8, 0),
    "rounded: weights, 8 bits": (False, 0, 8),
    "rounded: pointwise weights, 8 bits": (True, 0, 8),
    "rounded: pointwise activations and weights, 8 bits": (True, 8, 8),
}
VARIANTS = {
    "int8": (False, CalibrationMethod.MinMax),
    "int8, pointwise only": (True, CalibrationMethod.MinMax),
    "int8, pointwise only, percentile": (True, CalibrationMethod.Percentile),
}


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--stills", type=Path)
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    malloc.keep()
    torch.set_num_threads(THREADS)
    warnings.simplefilter("ignore")
    bundle = load_bundle(find_bundle(given.bundle))
    ensemble, manifest = build_ensemble(bundle), bundle.manifest

    def stills(path: Path) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Normalised (N, C, S, S) crops, and the bundle's index of each one's label by votes, -1 for none."""
        data = labelled_stills(path, crop_spec(manifest.input), manifest.labels, manifest.window)
        with torch.inference_mode():
            images = [ensemble.normalise(crops).contiguous().numpy() for crops in data.crops()]
        return np.concatenate(images), data.truths["ferplus"]

    side, channels = manifest.input.size, manifest.input.channels
    noise = np.random.default_rng(0).standard_normal((BATCH, channels, side, side)).astype(np.float32)
    calibration = noise
    if given.calibration is not None:
        images, _ = stills(given.calibration)
        calibration = images[np.random.default_rng(0).choice(len(images), CALIBRATION, replace=False)]
    with tempfile.TemporaryDirectory() as name:
        sessions = _sessions(next(iter(ensemble.backbones.values())), noise, calibration, Path(name))
        found: dict[str, Any] = {"bundle": f"{manifest.name} {manifest.version}", "torch": torch.__version__}
        found |= {"onnxruntime": onnxruntime.__version__, "threads": THREADS}
        found |= _speed(ensemble, sessions, noise, given.turns)
        if given.stills is not None:
            found["labels"] = _labels(ensemble, sessions, calibration, *stills(given.stills))
    print(json.dumps(found, indent=2))
    return 0


def _sessions(
    backbone: nn.Module, images: Floats, calibration: Floats, folder: Path
) -> dict[str, onnxruntime.InferenceSession]:
    exported, prepared = folder / "fp32.onnx", folder / "prepared.onnx"
    torch.onnx.export(
        backbone.eval(),
        (torch.from_numpy(images),),
        exported,
        dynamo=False,
        opset_version=17,
        input_names=["images"],
        output_names=["features"],
        dynamic_axes={"images": {0: "n"}, "features": {0: "n"}},
    )
    quant_pre_process(str(exported), str(prepared), skip_symbolic_shape=True)
    graph = onnx.load(prepared).graph
    kernels = {tensor.name: list(tensor.dims)[2:] for tensor in graph.initializer}
    others = [node.name for node in graph.node if node.op_type == "Conv" and kernels[node.input[1]] != [1, 1]]
    sessions = {"onnxruntime fp32": _session(exported)}
    for variant, (only_pointwise, method) in VARIANTS.items():
        path = folder / f"{len(sessions)}.onnx"
        quantize_static(
            str(prepared),
            str(path),
            _Batches(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=others if only_pointwise else [],
            calibrate_method=method,
            extra_options={"CalibPercentile": PERCENTILE},
        )
        sessions[f"onnxruntime {variant}"] = _session(path)
    return sessions


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # the package has no annotations
    def __init__(self, images: Floats) -> None:
        self._batches: Iterator[Floats] = (images[i : i + BATCH] for i in range(0, len(images), BATCH))

    def get_next(self) -> dict[str, Floats] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = THREADS, 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _speed(
    ensemble: Ensemble, sessions: dict[str, onnxruntime.InferenceSession], images: Floats, turns: int
) -> dict[str, Any]:
    backbone = next(iter(ensemble.backbones.values()))
    runs: dict[str, Callable[[], object]] = {}
    for name, dtype in (("torch fp32", torch.float32), ("torch bf16", torch.bfloat16)):
        given = torch.from_numpy(images).to(dtype).contiguous(memory_format=torch.channels_last)
        fused = for_inference(backbone, given)
        runs[name] = lambda fused=fused, given=given: fused(given)  # type: ignore[misc]
    for name, session in sessions.items():
        runs[name] = lambda session=session: session.run(None, {"images": images})  # type: ignore[misc]
    rates: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        plain = backbone(torch.from_numpy(images)).numpy()
        for _ in range(turns):
            for name, run in runs.items():
                run()
                count, started = 0, time.perf_counter()
                while (elapsed := time.perf_counter() - started) < SECONDS:
                    run()
                    count += BATCH
                rates[name].append(count / elapsed)
    (features,) = sessions["onnxruntime fp32"].run(None, {"images": images})
    return {
        "max_abs_feature_difference": float(np.abs(features - plain).max()),
        "crops_per_s": {name: round(statistics.median(values), 1) for name, values in rates.items()},
    }


def _labels(
    ensemble: Ensemble,
    sessions: dict[str, onnxruntime.InferenceSession],
    calibration: Floats,
    images: Floats,
    truth: npt.NDArray[np.int64],
) -> dict[str, dict[str, float]]:
    """Of the ensemble on stills that fill a window each."""
    windows = torch.arange(len(images)).unsqueeze(1).expand(-1, ensemble.window)
    weights = torch.tensor([member.weight for member in ensemble.members])
    given, nothing = truth >= 0, torch.empty(0)
    backbone = next(iter(ensemble.backbones.values()))
    example = torch.from_numpy(images[:BATCH]).bfloat16().contiguous(memory_format=torch.channels_last)
    networks: dict[str, Callable[[Floats], npt.NDArray[Any]]] = {
        name: lambda batch, session=session: session.run(None, {"images": batch})[0]  # type: ignore[misc]
        for name, session in sessions.items()
    }
    networks |= {"torch bf16": _of_torch(for_inference(backbone, example), torch.bfloat16)}
    networks |= {name: _of_torch(_rounded(backbone, calibration, *how), torch.float32) for name, how in ROUNDED.items()}
    found, plain = {}, None
    for name, network in networks.items():
        parts = [network(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
        features = torch.from_numpy(np.concatenate(parts))
        own = []
        for member in ensemble.members:
            logits = centre_logits(member.head, WindowSet(features, windows, nothing, nothing))
            own.append(torch.softmax(logits / member.temperature, dim=-1))
        labels = fuse_at(torch.stack(own), weights, ensemble.prior, None)[0].argmax(1).numpy()
        plain = labels if plain is None else plain
        found[name] = {
            "agreement": round(float((labels == plain).mean()), 4),
            "accuracy": round(float((labels == truth)[given].mean()), 4),
        }
    return found


def _of_torch(network: nn.Module, dtype: torch.dtype) -> Callable[[Floats], npt.NDArray[Any]]:
    def features(batch: Floats) -> npt.NDArray[Any]:
        given = torch.from_numpy(batch).to(dtype).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            found: npt.NDArray[Any] = network(given).float().numpy()
        return found

    return features


def _rounded(backbone: nn.Module, calibration: Floats, only_pointwise: bool, read: int, held: int) -> nn.Module:
    """A copy whose convolutions read activations of `read` bits by tensor, and hold weights of `held` by channel."""
    network = fold(backbone)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    chosen = [conv for conv in convolutions if not only_pointwise or conv.kernel_size == (1, 1)]
    ranges: dict[nn.Module, list[torch.Tensor]] = {conv: [] for conv in chosen}

    def note(conv: nn.Module, given: tuple[torch.Tensor]) -> None:
        values = given[0].flatten()
        values = values[:: max(len(values) // 100_000, 1)]
        ranges[conv].append(torch.quantile(values, torch.tensor([1 - PERCENTILE / 100, PERCENTILE / 100])))

    scales: dict[nn.Module, tuple[float, float]] = {}  # the lowest level, and the step between two

    def rounded(conv: nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        lowest, step = scales[conv]
        return (((given[0] - lowest) / step).round().clamp(0, 2**read - 1) * step + lowest,)

    with torch.no_grad():
        hooks = [conv.register_forward_pre_hook(note) for conv in chosen if read]
        for start in range(0, len(calibration) if read else 0, BATCH):
            network(torch.from_numpy(calibration[start : start + BATCH]))
        for hook in hooks:
            hook.remove()
        for conv in chosen:
            if read:
                lowest, highest = torch.stack(ranges[conv]).mean(dim=0).tolist()
                lowest, highest = min(lowest, 0.0), max(highest, 0.0)
                scales[conv] = (lowest, (highest - lowest) / (2**read - 1))
                conv.register_forward_pre_hook(rounded)
            if held:
                step = conv.weight.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12) / (2 ** (held - 1) - 1)
                conv.weight.copy_((conv.weight / step).round() * step)
    return network


if __name__ == "__main__":
    sys.exit(main())
