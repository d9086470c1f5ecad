"""Loading of bundle, device, engine and detector, and opening of inputs.

`run`, `label` and `bench` share this module, so they compute the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from app.contract.frames import Face, Frame, Looks
from app.contract.options import JobOptions
from model_store.bundle import find_bundle, read_manifest
from model_store.manifest import Manifest
from worker.core import devices
from worker.core.records import CroppedFace, LabelledFrame, VideoInfo
from worker.decode import (
    DecodeLimits,
    DecoderError,
    DecoderLostError,
    LimitExceededError,
    Sampling,
    UndecodableInputError,
)
from worker.decode.archives import SUFFIXES
from worker.decode.isolated import PROCESS, IsolatedSource
from worker.decode.messages import Input
from worker.ensemble.engine import Engine
from worker.ensemble.precision import Precision, choose_precision
from worker.ensemble.runtime import Runtime
from worker.inference.detectors import open_finder
from worker.inference.pipeline import LabelOptions, Pipeline, Source
from worker.inference.specs import crop_shape, crop_spec, ensembled
from worker.settings import ALL_DEVICES, WorkerSettings

# (height, width) of the frame for the detectors' warm-up: on a GPU a usual size, for kernel selection.
USUAL_SIZE, SMALL_SIZE = (360, 640), (64, 64)

# Errors of one input: a command reports them and goes on with the next.
INPUT_ERRORS = (
    UndecodableInputError,
    LimitExceededError,
    DecoderError,
    DecoderLostError,
    devices.OutOfDeviceMemoryError,
    MemoryError,
    OSError,
)


@dataclass(frozen=True)
class Serving:
    """A loaded bundle, ready to label."""

    manifest: Manifest
    pipeline: Pipeline
    device: str
    precision: Precision

    def open_source(
        self,
        path: Path,
        reading: str,
        options: JobOptions,
        limits: DecodeLimits,
        beat: Callable[[], None] = lambda: None,
    ) -> Source:
        """Open an input.  reading: as in `app.contract.media`, or from `reading_of` for a local file.

        beat: see `IsolatedSource`.
        Raises: UndecodableInputError, LimitExceededError, DecoderError; MemoryError.
        """
        sampling = label_options(options).sampling
        return IsolatedSource(Input(str(path), reading, options.fps, sampling), limits, beat=beat)

    def close(self) -> None:
        """End the engine's thread: a thread in native code at interpreter exit aborts the process."""
        self.pipeline.engine.stop()
        self.pipeline.engine.close()


def reading_of(path: Path) -> str:
    """The `reading` of a local file or folder."""
    return "folder" if path.is_dir() else "image" if path.suffix.lower() in SUFFIXES else "video"


def load(settings: WorkerSettings, *, jobs: int = 1) -> Serving:
    """Load, verify and warm up.  jobs: maximum number of concurrent inputs.

    Raises: BundleError, DeviceError, DeviceFailedError, DetectorError, PrecisionError: each with one sentence for the
    operator; StartAgainError.
    """
    PROCESS.start()  # the decoding process, before CUDA is initialised
    device = choose_device(settings.device)
    cv2.setNumThreads(1)  # its threads would spin on the cores of decoding and the ensemble
    if device == devices.CPU:
        return _load(settings, jobs, device)
    from worker.inference.torch_loading import explained  # noqa: PLC0415  # loads torch

    with explained(device):
        return _load(settings, jobs, device)


def _load(settings: WorkerSettings, jobs: int, device: str) -> Serving:
    folder = find_bundle(settings.bundle)
    manifest = read_manifest(folder)
    int8 = manifest.graphs.int8 if manifest.graphs is not None else None
    precision = choose_precision(settings.precision, device, int8=int8 is not None and int8.is_like_float32)
    with ThreadPoolExecutor(1, "load") as pool:
        # On a CPU OpenVINO compiles while the detectors load; on a GPU both need this thread's current device.
        opening = pool.submit(_runtime, folder, settings, device, precision) if device == devices.CPU else None
        finders = [open_finder(settings.detector_model, device) for _ in range(jobs)]
        for finder in finders:  # warm-up: a missing dependency fails now, not in a job
            finder.detect([np.zeros((*(SMALL_SIZE if device == devices.CPU else USUAL_SIZE), 3), np.uint8)], None)
        runtime = opening.result() if opening is not None else _runtime(folder, settings, device, precision)
    engine = Engine(ensembled(manifest), crop_shape(manifest.input), runtime)
    engine.warm_up()
    return Serving(manifest, Pipeline(engine, finders, crop_spec(manifest.input)), device, precision)


def _runtime(folder: Path, settings: WorkerSettings, device: str, precision: Precision) -> Runtime[Any]:
    if device == devices.CPU:
        from worker.inference.graphs import open_runtime  # noqa: PLC0415  # loads OpenVINO

        return open_runtime(folder, precision, cpu_threads(settings))
    from worker.inference.torch_loading import open_torch_runtime  # noqa: PLC0415

    return open_torch_runtime(folder, device, precision, graphs=settings.cuda_graphs)


def cpu_threads(settings: WorkerSettings) -> int:
    """The ensemble's threads on a CPU."""
    return settings.threads or os.cpu_count() or 1


def choose_device(wanted: str) -> str:
    """See `devices.choose`.  Raises: DeviceError for a missing GPU, and for `all`, which the supervisor handles."""
    if wanted == ALL_DEVICES:
        raise devices.DeviceError(f"MIEN_DEVICE={ALL_DEVICES} is for `worker run`; here, name one device")
    return devices.choose(wanted)


def label_options(options: JobOptions) -> LabelOptions:
    """Convert a job's options for the pipeline."""
    return LabelOptions(
        cropped=options.faces == "cropped",
        max_faces=options.max_faces,
        min_face_px=options.min_face_px,
        min_score=options.min_score,
        members=options.members or (),
        prior=options.prior_share,
        landmarks=options.landmarks,
        sampling=Sampling(options.sample_fps, options.start_s, options.end_s),
    )


def contract_frames(frames: Iterable[LabelledFrame], info: VideoInfo) -> Iterable[Frame]:
    """Convert labelled frames to the contract's.  info: of their source; frames of its size omit theirs."""
    for labelled in frames:
        cropped = labelled.frame
        faces = tuple(
            Face(
                face.track_id,
                face.bbox,
                face.detection_score,
                tuple(labelled.fused[i].tolist()),
                tuple(tuple(scores.tolist()) for scores in labelled.members[:, i]),
                _looks(face),
            )
            for i, face in enumerate(cropped.faces)
        )
        own_size = None if cropped.size == (info.width, info.height) else cropped.size
        yield Frame(cropped.frame_index, cropped.timestamp_s, faces, own_size)


def _looks(face: CroppedFace) -> Looks | None:
    if face.looks is None:
        return None
    points = tuple((float(x), float(y)) for x, y in face.looks.landmarks)
    return Looks(points, face.looks.pose, face.looks.sharpness)
