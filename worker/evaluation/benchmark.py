"""Measures the ensemble, the whole pipeline and the sliding-window reference in one run.

Machines differ and are shared, so compare the ratios of one run only: `speedup`, `ensemble_fps / backbone_fps`, and
the pipeline's rate against the rates of its stages alone.  `backbone_fps` is the rate of what is computed once a crop:
the backbones, and the parts of the heads that need no window.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from app.contract.options import JobOptions
from worker.core.records import CroppedFace, CroppedFrame, Image
from worker.ensemble.engine import Engine
from worker.ensemble.stream import ClipStream
from worker.inference import serving
from worker.inference.pipeline import LabelOptions, Source
from worker.settings import WorkerSettings, decode_limits

SECONDS = 4.0  # each figure is measured for at least this long ...
REFERENCE_FRAMES = 8  # ... except the reference, which needs seconds per frame: these frames, once
STAGE_FRAMES = 240  # frames held in memory to measure the faces stage alone


def measure(settings: WorkerSettings, video: Path | None, crops: int) -> dict[str, Any]:
    """Everything that `worker bench --json` prints.  crops: of the synthetic clip, at least two windows long."""
    loaded = serving.load(settings)
    engine = loaded.pipeline.engine
    clip = synthetic_crops(crops, engine.crop_shape)
    batch = min(engine.batch, engine.step_frames)  # of a clip with one face
    backbone_fps = _rate(lambda: engine.encode_only(clip[:batch]))
    fused, ensemble_fps = _ensemble_rate(engine, clip)
    pipeline = None if video is None else _pipeline(loaded, settings, video)
    # Last, since it loads torch, which serving on a CPU does not.
    from worker.evaluation import reference  # noqa: PLC0415

    positions, threads = reference_positions(len(clip)), serving.cpu_threads(settings)
    plain, reference_fps, distinct = reference.rate(settings.bundle, clip, positions, loaded.device, threads)
    difference = np.abs(plain - fused[positions])
    return {
        "device": loaded.device,
        "precision": loaded.precision,
        "torch": version("torch"),
        "openvino": version("openvino"),
        "threads": threads,
        "mode": engine.mode,
        "batch": batch,
        "bundle": f"{loaded.manifest.name} {loaded.manifest.version}",
        "distinct_backbones": distinct,
        "crops": len(clip),
        "backbone_fps": round(backbone_fps, 2),
        "ensemble_fps": round(ensemble_fps, 2),
        "reference_fps": round(reference_fps, 3),
        "speedup": round(ensemble_fps / reference_fps, 2),
        "max_abs_probability_difference": float(difference.max()),
        "label_agreement": float((plain.argmax(1) == fused[positions].argmax(1)).mean()),
        "pipeline": pipeline,
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


def _ensemble_rate(engine: Engine, clip: list[Image]) -> tuple[np.ndarray, float]:
    """Fused probabilities (N, K) of the clip as one track, and frames a second."""
    frames = [CroppedFrame(i, i / 30, (CroppedFace(0, (0, 0, 1, 1), None, crop),), ()) for i, crop in enumerate(clip)]

    def label() -> list[np.ndarray]:
        return [labelled.fused[0] for labelled in ClipStream(engine, engine.member_names).run(frames)]

    return np.stack(label()), _rate(lambda: len(label()))


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
