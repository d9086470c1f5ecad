"""Loading of bundle, device, engine and detector, and opening of inputs.

`run`, `label` and `bench` share this module, so they compute the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from app.contract.frames import Face, Frame, Looks
from app.contract.options import JobOptions
from model_store.bundle import find_bundle, load_bundle
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
from worker.ensemble.passes import GraphError, frame_pass
from worker.ensemble.precision import Precision, choose_precision
from worker.errors import StartAgainError
from worker.inference.bundles import build_ensemble, crop_spec
from worker.inference.detectors import open_finder
from worker.inference.pipeline import LabelOptions, Pipeline, Source
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


class DeviceError(Exception):
    """The requested device does not exist; the message lists those that do."""


class DeviceFailedError(Exception):
    """The device exists but has too little memory or fails; the message is the reason."""


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
        """End the engine's thread: a thread in PyTorch's code at interpreter exit aborts the process."""
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
    devices.prepare(device)
    try:
        with devices.on_device(device):
            return _load(settings, jobs, device)
    except (torch.OutOfMemoryError, devices.OutOfDeviceMemoryError):
        raise DeviceFailedError(f"{device} has no memory for the bundle; free some of it") from None
    except torch.AcceleratorError as error:
        raise DeviceFailedError(f"{device} fails: {devices.first_line(error)}") from None
    except GraphError as error:
        raise StartAgainError(str(error), {"MIEN_CUDA_GRAPHS": "false"}) from error


def _load(settings: WorkerSettings, jobs: int, device: torch.device) -> Serving:
    precision = choose_precision(settings.precision, device)
    cv2.setNumThreads(1)  # its threads would spin on the cores of decoding and the ensemble
    torch.set_num_threads(1)  # loading consists of many small operations, which are slower with threads
    bundle = load_bundle(find_bundle(settings.bundle))
    manifest = bundle.manifest
    shape = (manifest.input.size, manifest.input.size, manifest.input.channels)
    finders = [open_finder(settings.detector_model, device) for _ in range(jobs)]
    for finder in finders:  # warm-up: a missing dependency fails now, not in a job
        finder.detect([np.zeros((*(SMALL_SIZE if device.type == "cpu" else USUAL_SIZE), 3), np.uint8)], None)
    make_pass = partial(frame_pass, graphs=settings.cuda_graphs, threads=cpu_threads(settings))
    engine = Engine(build_ensemble(bundle), shape, device, precision, make_pass)
    torch.set_num_threads(cpu_threads(settings))
    engine.warm_up()
    return Serving(manifest, Pipeline(engine, finders, crop_spec(manifest.input)), str(device), precision)


def cpu_threads(settings: WorkerSettings) -> int:
    """The ensemble's threads on a CPU."""
    return settings.threads or os.cpu_count() or 1


def choose_device(wanted: str) -> torch.device:
    """`auto`: the first GPU, else the CPU.  Raises: DeviceError if a requested GPU is missing."""
    if wanted == ALL_DEVICES:
        raise DeviceError(f"MIEN_DEVICE={ALL_DEVICES} is for `worker run`; here, name one device")
    if wanted == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(f"MIEN_DEVICE={wanted}, but PyTorch {torch.__version__} sees {_what_is_there(count)}")
        return torch.device("cuda", device.index or 0)
    return device


def _what_is_there(count: int) -> str:
    if count:
        return f"{count} CUDA devices"
    if not torch.version.cuda:
        return "no CUDA device: it is a build without CUDA"
    return f"no CUDA device: is one there, and its driver new enough for CUDA {torch.version.cuda}?"


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
