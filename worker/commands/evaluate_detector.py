"""`python -m worker evaluate-detector`: a face detector on marked frames, or beside another one on clips; on one core.

python -m worker evaluate-detector --marks tests/bench/marked_frames/marks.json --frames frames/ --json
python -m worker evaluate-detector --reference levelled:yunet --labels clips/*.mp4 --json
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import cv2
import typer

from model_store.bundle import BundleError, find_bundle, read_manifest
from worker.core.devices import CPU
from worker.core.records import DetectedFrame, Detections, Image
from worker.decode import LimitExceededError, Sampling, UndecodableInputError
from worker.decode.isolated import IsolatedSource
from worker.decode.messages import Input
from worker.ensemble.engine import Engine
from worker.ensemble.stream import ClipStream
from worker.errors import CommandError
from worker.evaluation.detector_comparison import compare, same_labels
from worker.evaluation.marked_frames import measure, read_marks
from worker.faces import Detector, DetectorError
from worker.faces.shots import ShotCuts, thumbnail
from worker.inference.detectors import open_detector, open_finder
from worker.inference.graphs import open_runtime
from worker.inference.pipeline import LabelOptions, Pipeline, Source
from worker.inference.serving import reading_of
from worker.inference.specs import crop_shape, crop_spec, ensembled
from worker.settings import WorkerSettings, decode_limits
from worker.tracks.association import Tracker

FPS = 30.0  # of a folder of images
NAMES = "default, yunet, retinaface, centerface, cascade, or YuNet's ONNX file"


def command(
    clips: Annotated[list[Path] | None, typer.Argument(metavar="CLIP...", help="videos or folders of images")] = None,
    detector: Annotated[str, typer.Option(help=f"what is measured: {NAMES}")] = "default",
    marks: Annotated[Path | None, typer.Option(help="JSON file of frames whose faces were marked by eye")] = None,
    frames: Annotated[Path | None, typer.Option(help="the folder of the marked frames")] = None,
    reference: Annotated[
        str, typer.Option(help="what is taken as true on clips: one of these, or levelled: and one of these")
    ] = "yunet",
    every: Annotated[int, typer.Option(min=1, help="every so many frames of a clip")] = 6,
    min_face_px: Annotated[
        float, typer.Option(help="faces and boxes at least so wide count on clips, in the frame's pixels")
    ] = 24,
    min_score: Annotated[
        float | None, typer.Option(help="the measured detector's threshold; its own by default")
    ] = None,
    labels: Annotated[
        bool,
        typer.Option("--labels", help="also label every clip with both; the reference on each frame"),
    ] = False,
    bundle: Annotated[str, typer.Option(help="the bundle that labels")] = "default",
    json_: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Recall and false boxes on marked frames; recall, landmark errors and labels against a reference on clips."""
    if not clips and marks is None:
        raise typer.BadParameter("name a clip, or --marks and --frames")
    if (marks is None) != (frames is None):
        raise typer.BadParameter("go together", param_hint="--marks, --frames")
    cv2.setNumThreads(1)
    settings = WorkerSettings()
    report: dict[str, Any] = {"detector": detector}
    try:
        measured = open_detector(detector, CPU)
        if marks is not None and frames is not None:
            report["marks"] = measure(measured, read_marks(marks), frames, min_score).figures()
        if clips:
            report |= {"reference": reference, "every": every, "min_face_px": min_face_px, "clips": {}}
            true = open_detector(reference, CPU)
            labelling = _Labelling(bundle, detector, true) if labels else None
            for clip in clips:
                images = (image for image in islice(_images(_open(clip, settings)), None, None, every))
                figures = compare(measured, true, images, min_face_px, min_score).figures()
                if labelling is not None:
                    figures |= labelling.agreement(clip, settings)
                report["clips"][clip.name] = figures
    except (BundleError, DetectorError, UndecodableInputError, LimitExceededError) as error:
        raise CommandError(str(error)) from None
    if json_:
        typer.echo(json.dumps(report))
        return
    for name, figures in [*([("marks", report["marks"])] if marks else []), *report.get("clips", {}).items()]:
        typer.echo(name)
        for key, value in figures.items():
            typer.echo(f"  {key:22} {value:.4g}" if isinstance(value, float) else f"  {key:22} {value}")


class _Labelling:
    """The pipeline with the measured detector, and the same with the reference on every frame, nothing followed."""

    def __init__(self, bundle: str, detector: str, reference: Detector) -> None:
        folder = find_bundle(bundle)
        manifest = read_manifest(folder)
        runtime = open_runtime(folder, "fp32", threads=1)
        self._engine = Engine(ensembled(manifest), crop_shape(manifest.input), runtime)
        self._pipeline = Pipeline(self._engine, [open_finder(detector, CPU)], crop_spec(manifest.input))
        self._reference = reference

    def agreement(self, clip: Path, settings: WorkerSettings) -> dict[str, float | int | None]:
        """Share of the faces found through both, in all frames of the clip, that get the same label."""
        ours = self._pipeline.label(_open(clip, settings), LabelOptions(min_face_px=1))
        cropped = (self._pipeline.cut(frame) for frame in Tracker().run(self._each(_open(clip, settings))))
        theirs = ClipStream(self._engine, self._engine.member_names).run(cropped)
        same, matched = same_labels(ours, theirs)
        return {"labelled_faces": matched, "same_label": same / matched if matched else None}

    def _each(self, source: Source) -> Iterator[DetectedFrame]:
        cuts = ShotCuts()
        for frame in source.frames():
            if frame.picture is None:
                yield DetectedFrame(frame, Detections.none(), starts_shot=False)
            else:
                (faces,) = self._reference.detect([frame.picture], None)
                yield DetectedFrame(frame, faces, cuts.is_cut(thumbnail(frame.picture)))


def _open(clip: Path, settings: WorkerSettings) -> Source:
    if not clip.exists():
        raise CommandError(f"{clip}: no such file or folder")
    return IsolatedSource(Input(str(clip), reading_of(clip), FPS, Sampling()), decode_limits(settings))


def _images(source: Source) -> Iterator[Image]:
    return (frame.image for frame in source.frames() if frame.image is not None)
