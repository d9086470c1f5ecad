"""`python -m worker evaluate-detector`: two face detectors on the same frames, on one core.

python -m worker evaluate-detector --reference yunet:face_detection_yunet_2023mar.onnx clips/*.mp4 --json
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import cv2
import torch
import typer

from model_store.bundle import BundleError, find_bundle, load_bundle
from worker.core.records import Image
from worker.decode import LimitExceededError, Sampling, UndecodableInputError
from worker.decode.child import Input
from worker.decode.isolated import IsolatedSource
from worker.ensemble.engine import Engine
from worker.errors import CommandError
from worker.evaluation.detector_comparison import compare, same_labels
from worker.faces import Detector
from worker.faces.yunet import DetectorError
from worker.inference.bundles import build_ensemble, crop_spec
from worker.inference.detectors import open_detector
from worker.inference.pipeline import LabelOptions, Pipeline, Source
from worker.inference.serving import reading_of
from worker.settings import WorkerSettings, decode_limits
from worker.training.detector.material import faceless_pictures
from worker.training.detector.validation import enlarged
from worker.training.errors import TrainingError

CPU = torch.device("cpu")
FPS = 30.0  # of a folder of images


def command(
    clips: Annotated[list[Path] | None, typer.Argument(metavar="CLIP...", help="videos or folders of images")] = None,
    reference: Annotated[
        str, typer.Option(help="what is taken as true: yunet:FILE, levelled:yunet:FILE, mien:FOLDER, cascade")
    ] = "cascade",
    detector: Annotated[str, typer.Option(help="what is measured: mien, mien:FOLDER, yunet:FILE, cascade")] = "mien",
    images: Annotated[Path | None, typer.Option(help="detector_backgrounds.npz: its pictures without a face")] = None,
    last_images: Annotated[int, typer.Option(help="only the last so many of them; 0 for all")] = 0,
    every: Annotated[int, typer.Option(min=1, help="every so many frames of a clip")] = 6,
    min_face_px: Annotated[
        float, typer.Option(help="faces and boxes at least so wide count, in the frame's pixels")
    ] = 24,
    min_score: Annotated[
        float | None, typer.Option(help="the measured detector's threshold; its own by default")
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="also label every clip through both, compare labels")
    ] = False,
    bundle: Annotated[str, typer.Option(help="the bundle that labels")] = "default",
    json_: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Recall, false boxes, landmark errors and milliseconds against a reference; all figures of one run."""
    if not clips and images is None:
        raise typer.BadParameter("name a clip, or --images")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    settings = WorkerSettings()
    report: dict[str, Any] = {"detector": detector, "reference": reference, "every": every, "min_face_px": min_face_px}
    try:
        both = (open_detector(detector, CPU), open_detector(reference, CPU))
        engine = _Labelling(bundle, both) if labels else None
        report["clips"] = {}
        for clip in clips or ():
            frames = (image for image in islice(_images(_open(clip, settings)), None, None, every))
            figures = compare(*both, frames, min_face_px, min_score).figures()
            if engine is not None:
                figures |= engine.agreement(clip, settings)
            report["clips"][clip.name] = figures
        if images is not None:
            pictures = [enlarged(picture) for picture in faceless_pictures(images)[-last_images:]]
            report["images"] = compare(*both, pictures, min_face_px, min_score).figures()
    except (BundleError, DetectorError, TrainingError, UndecodableInputError, LimitExceededError) as error:
        raise CommandError(str(error)) from None
    if json_:
        typer.echo(json.dumps(report))
    else:
        for name, figures in [*report["clips"].items(), *([("images", report["images"])] if images else [])]:
            typer.echo(name)
            for key, value in figures.items():
                typer.echo(f"  {key:22} {value:.4g}" if isinstance(value, float) else f"  {key:22} {value}")


class _Labelling:
    """The whole pipeline, once with each detector."""

    def __init__(self, bundle: str, both: tuple[Detector, Detector]) -> None:
        loaded = load_bundle(find_bundle(bundle))
        size = loaded.manifest.input
        engine = Engine(build_ensemble(loaded), (size.size, size.size, size.channels), CPU, "fp32")
        self._pipelines = [Pipeline(engine, [detector], crop_spec(loaded.manifest.input)) for detector in both]

    def agreement(self, clip: Path, settings: WorkerSettings) -> dict[str, float | int | None]:
        """Share of the faces found through both, in all frames of the clip, that get the same label."""
        ours, theirs = (pipeline.label(_open(clip, settings), LabelOptions()) for pipeline in self._pipelines)
        same, matched = same_labels(ours, theirs)
        return {"labelled_faces": matched, "same_label": same / matched if matched else None}


def _open(clip: Path, settings: WorkerSettings) -> Source:
    if not clip.exists():
        raise CommandError(f"{clip}: no such file or folder")
    return IsolatedSource(Input(str(clip), reading_of(clip), FPS, Sampling()), decode_limits(settings))


def _images(source: Source) -> Iterator[Image]:
    return (frame.image for frame in source.frames() if frame.image is not None)
