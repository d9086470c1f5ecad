"""Measures the ensemble, the whole pipeline and the sliding-window reference in one run.

Machines differ and are shared, so compare the ratios of one run only: `speedup`, `ensemble_fps / backbone_fps`, and
the pipeline's rate against the rates of its stages alone.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.contract.options import JobOptions
from model_store.bundle import find_bundle, load_bundle
from worker.core.records import CroppedFace, CroppedFrame, Image
from worker.ensemble.engine import Engine
from worker.ensemble.fusion import fuse_at
from worker.ensemble.networks import Ensemble
from worker.ensemble.passes import frame_pass
from worker.ensemble.precision import DTYPES
from worker.ensemble.stream import ClipStream
from worker.inference import serving
from worker.inference.bundles import build_ensemble
from worker.inference.pipeline import LabelOptions, Source
from worker.settings import WorkerSettings, decode_limits

SECONDS = 4.0  # each figure is measured for at least this long ...
REFERENCE_FRAMES = 8  # ... except the reference, which needs seconds per frame: these frames, once
STAGE_FRAMES = 240  # frames held in memory to measure the faces stage alone


def measure(settings: WorkerSettings, video: Path | None, crops: int) -> dict[str, Any]:
    """Everything that `worker bench --json` prints.  crops: of the synthetic clip, at least two windows long."""
    loaded = serving.load(settings)
    engine, threads = loaded.pipeline.engine, serving.cpu_threads(settings)
    reference = build_ensemble(load_bundle(find_bundle(settings.bundle)))
    for module in reference.modules():
        module.to(engine.device)
    clip = synthetic_crops(crops, engine.crop_shape)
    batch = min(engine.batch, engine.step_frames)  # of a clip with one face
    backbone_fps = _backbone_rate(reference, engine, clip[:batch], threads)
    fused, ensemble_fps = _ensemble_rate(engine, clip)
    plain, reference_fps = _reference_rate(reference, clip, engine.device)
    positions = reference_positions(len(clip))
    difference = np.abs(plain - fused[positions])
    return {
        "device": loaded.device,
        "precision": loaded.precision,
        "torch": torch.__version__,
        "threads": threads,
        "mode": engine.mode,
        "batch": batch,
        "bundle": f"{loaded.manifest.name} {loaded.manifest.version}",
        "distinct_backbones": len(reference.backbones),
        "crops": len(clip),
        "backbone_fps": round(backbone_fps, 2),
        "ensemble_fps": round(ensemble_fps, 2),
        "reference_fps": round(reference_fps, 3),
        "speedup": round(ensemble_fps / reference_fps, 2),
        "max_abs_probability_difference": float(difference.max()),
        "label_agreement": float((plain.argmax(1) == fused[positions].argmax(1)).mean()),
        "pipeline": None if video is None else _pipeline(loaded, settings, video),
    }


def synthetic_crops(count: int, shape: tuple[int, int, int]) -> list[Image]:
    """A clip of smoothly changing noise: crops (size, size, C) uint8 that differ from frame to frame, seeded."""
    rng = np.random.default_rng(0)
    start, end = (rng.integers(0, 256, shape).astype(np.float32) for _ in range(2))
    return [np.asarray(start + (end - start) * share, np.uint8) for share in np.linspace(0, 1, count)]


def reference_positions(count: int) -> list[int]:
    """Frames that the reference labels: spread over the clip, its ends included."""
    return sorted({round(position) for position in np.linspace(0, count - 1, min(REFERENCE_FRAMES, count))})


def _rate(run: Callable[[], int]) -> float:
    """Items per second of `run`, which returns its number of items; one warm-up, then `SECONDS`."""
    run()
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < SECONDS or not done:
        done += run()
    return done / elapsed


def _backbone_rate(reference: Ensemble, engine: Engine, batch: list[Image], threads: int) -> float:
    """One backbone without heads per crop, at the engine's precision and batch size, with its optimisations.

    On a GPU without CUDA graphs.
    """
    key, backbone = next(iter(reference.backbones.items()))
    headless = [("backbone", key, lambda features: features)]
    given = (reference.normalise, {key: backbone}, headless, engine.crop_shape, engine.device, DTYPES[engine.precision])

    with torch.inference_mode(), closing(frame_pass(*given, graphs=False, threads=threads)) as bare:

        def run() -> int:
            bare(batch)
            if engine.device.type == "cuda":
                torch.cuda.synchronize(engine.device)
            return len(batch)

        return _rate(run)


def _ensemble_rate(engine: Engine, clip: list[Image]) -> tuple[np.ndarray, float]:
    """Fused probabilities (N, K) of the clip as one track, and frames a second."""
    frames = [CroppedFrame(i, i / 30, (CroppedFace(0, (0, 0, 1, 1), None, crop),), ()) for i, crop in enumerate(clip)]

    def label() -> list[np.ndarray]:
        return [labelled.fused[0] for labelled in ClipStream(engine, engine.member_names).run(frames)]

    return np.stack(label()), _rate(lambda: len(label()))


def _reference_rate(reference: Ensemble, clip: list[Image], device: torch.device) -> tuple[np.ndarray, float]:
    """Fused probabilities of `reference_positions`, each from its own window, and frames a second."""
    half, last = reference.window // 2, len(clip) - 1
    weights = torch.tensor([member.weight for member in reference.members], device=device)
    fused = []
    positions = reference_positions(len(clip))
    started = time.perf_counter()
    for position in positions:
        window = [clip[min(max(p, 0), last)] for p in range(position - half, position + half + 1)]
        probabilities = reference.window_probabilities(torch.from_numpy(np.stack(window)).to(device))
        scores, _ = fuse_at(torch.stack(list(probabilities.values())), weights, reference.prior, None)
        fused.append(scores.cpu().numpy())
    return np.stack(fused), len(positions) / (time.perf_counter() - started)


def _pipeline(loaded: serving.Serving, settings: WorkerSettings, video: Path) -> dict[str, Any]:
    pipeline, options = loaded.pipeline, LabelOptions()
    limits = decode_limits(settings)

    def source() -> Source:
        return loaded.open_source(video, "video", JobOptions(), limits)

    frames, faces, fps = 0, 0, _Clock()
    for labelled in pipeline.label(source(), options):
        frames, faces = frames + 1, faces + len(labelled.frame.faces)
    fps.stop()
    # Before the stages are measured separately, which buffers frames.
    peak_rss_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    decode = _Clock()
    decoded = sum(1 for _ in source().frames())
    decode.stop()
    held = list(islice(source().frames(), STAGE_FRAMES))
    stage = _Clock()
    cropped = list(pipeline.crop(held, options))
    stage.stop()
    engine = _Clock()
    labelled_frames = _count(ClipStream(pipeline.engine, pipeline.engine.member_names).run(iter(cropped)))
    engine.stop()
    return {
        "video": video.name,
        "frames": frames,
        "faces": faces,
        "fps": round(frames / fps.seconds, 2),
        "decode_fps": round(decoded / decode.seconds, 2),
        "faces_fps": round(len(cropped) / stage.seconds, 2),
        "ensemble_fps": round(labelled_frames / engine.seconds, 2),
        "peak_rss_bytes": peak_rss_bytes,
    }


def _count(items: Iterable[object] | Iterator[object]) -> int:
    return sum(1 for _ in items)


class _Clock:
    """Seconds from construction to `stop`."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.seconds = 0.0

    def stop(self) -> None:
        self.seconds = max(time.perf_counter() - self._started, 1e-9)
