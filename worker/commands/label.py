"""`python -m worker label`: label files on this machine, without Redis or the API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from app.contract import chunks, exports
from app.contract.exports.content import Content
from app.contract.frames import Frame
from app.contract.options import JobOptions
from app.contract.segments import Smoothing
from model_store.bundle import BundleError
from worker.commands.job_options import PRIOR_HELP, job_options
from worker.commands.label_inputs import Clip, find_clips
from worker.commands.label_output import FolderOutput, StreamOutput
from worker.commands.label_report import Outcome, Report
from worker.core.devices import DeviceError, DeviceFailedError
from worker.decode import DecodeLimits
from worker.ensemble.precision import PrecisionError
from worker.errors import CommandError, UsageError
from worker.faces import DetectorError
from worker.inference import serving
from worker.inference.left_out import LeftOutTally
from worker.inference.whole import WholeTally
from worker.settings import WorkerSettings, decode_limits


def command(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="videos, image folders or images")],
    faces: Annotated[Literal["detect", "cropped"], typer.Option(help="cropped: every frame is one face")] = "detect",
    format: Annotated[exports.ExportFormat, typer.Option(help="what to write")] = "json",
    members: Annotated[bool, typer.Option("--members", help="also write each member's scores")] = False,
    out: Annotated[Path | None, typer.Option(help="folder for one file per input; default: stdout")] = None,
    prior: Annotated[str | None, typer.Option(help=PRIOR_HELP)] = None,
    recursive: Annotated[bool, typer.Option("--recursive", help="label all videos below folders")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="skip inputs whose output exists in --out")
    ] = False,
    use_members: Annotated[str | None, typer.Option(help="subset of the members to fuse, such as cnn,cnn_rnn")] = None,
    sample_fps: Annotated[float | None, typer.Option(help="label at most this many frames per second")] = None,
    max_faces: Annotated[int, typer.Option(help="most faces per frame: tracked ones, then the largest")] = 10,
    min_face_px: Annotated[float, typer.Option(help="smaller faces are left out")] = 16,
    min_score: Annotated[float | None, typer.Option(help="faces with a lower score are left out")] = None,
    fps: Annotated[float, typer.Option(help="frame rate of images")] = 30,
    start_s: Annotated[float | None, typer.Option(help="from this time on, seconds")] = None,
    end_s: Annotated[float | None, typer.Option(help="up to this time, seconds")] = None,
    people: Annotated[bool, typer.Option("--people", help="group tracks by person")] = False,
    baseline: Annotated[str | None, typer.Option(help="auto or START-END: change from a person's neutral face")] = None,
    landmarks: Annotated[bool, typer.Option("--landmarks", help="also write landmarks, pose, sharpness, size")] = False,
    smooth_s: Annotated[float, typer.Option(help="captions, segments: smooth scores over this many seconds")] = 0.3,
    min_segment_s: Annotated[float, typer.Option(help="captions, segments: the shortest, seconds")] = 0.4,
    unsure_below: Annotated[float, typer.Option(help="captions, segments: mark lower mean scores")] = 0.4,
) -> None:
    """Label every input; exit status 1 if one of them could not be labelled."""
    options = job_options(
        faces=faces,
        members=use_members,
        prior=prior,
        sample_fps=sample_fps,
        max_faces=max_faces,
        min_face_px=min_face_px,
        min_score=min_score,
        fps=fps,
        start_s=start_s,
        end_s=end_s,
        people=people,
        baseline=baseline,
        landmarks=landmarks,
        smooth_s=smooth_s,
        min_segment_s=min_segment_s,
        unsure_below=unsure_below,
    )
    if skip_existing and out is None:
        raise UsageError("--skip-existing needs --out FOLDER")
    clips = find_clips(inputs, recursive=recursive)
    output = _output(format, clips, out, skip_existing)
    settings = WorkerSettings()
    try:
        loaded = serving.load(settings)
    except (BundleError, DeviceError, DeviceFailedError, DetectorError, PrecisionError) as error:
        raise CommandError(str(error)) from None
    with closing(loaded), Report(len(clips)) as report:
        labelling = Labelling(loaded, options, decode_limits(settings), format, members, output, report)
        for clip in clips:
            labelling.label(clip)
        output.end()
    report.summarise()
    if report.failed:
        raise CommandError(f"{len(report.failed)} of {len(clips)} inputs could not be labelled")


def _output(
    format: exports.ExportFormat, clips: list[Clip], out: Path | None, skip_existing: bool
) -> StreamOutput | FolderOutput:
    """Standard output, or a file per input in `out`.  Raises: CommandError if the format's library is missing."""
    try:
        exports.check(format)
    except exports.MissingLibraryError as error:
        raise CommandError(str(error)) from None
    if out is None:
        return StreamOutput(format, len(clips))
    return FolderOutput(out, format, clips, skip_existing=skip_existing)


@dataclass(frozen=True)
class Labelling:
    """The model, options and output of all clips."""

    loaded: serving.Serving
    options: JobOptions
    limits: DecodeLimits
    format: exports.ExportFormat
    members: bool
    output: FolderOutput | StreamOutput
    report: Report

    def label(self, clip: Clip) -> None:
        """Label and write one clip; a failure is added to the report."""
        if not self.output.begin(clip):
            self.report.skip(clip)
            return
        try:
            outcome = Outcome()
            self.output.write(clip, exports.export(self._frames(clip, outcome), self.format, self._content()))
            self.report.succeed(clip, outcome)
        except BrokenPipeError:  # the reader closed the pipe, which is not a fault of the input
            raise
        except (*serving.INPUT_ERRORS, ValueError) as error:
            self.report.fail(clip, str(error) or "not enough memory")

    def _content(self) -> Content:
        loaded, options = self.loaded, self.options
        names = loaded.pipeline.members(serving.label_options(options)) if self.members else ()
        smoothing = Smoothing.chosen(options)
        lead, header = self.output.lead, self.output.header
        manifest = loaded.manifest
        about = {
            "model": manifest.name,
            "model_version": manifest.version,
            "detector": loaded.pipeline.detector_name,
            "options": options.model_dump_json(),
        }
        late = options.late_fields
        return Content(manifest.labels, names, smoothing, lead, header, options.landmarks, late, about)

    def _frames(self, clip: Clip, outcome: Outcome) -> Iterator[Frame]:
        """The clip's frames, rounded by the chunk codec as in the service.

        Fields that are known only at the end are joined to all frames, which are buffered as chunks until then.
        """
        chosen = serving.label_options(self.options)
        left_out = LeftOutTally(chosen)
        people = self.loaded.pipeline.gathering() if self.options.people else None
        tally = WholeTally(self.options, self.loaded.manifest.labels, people)
        held: list[bytes] | None = [] if self.options.late_fields else None
        started = time.monotonic()
        reading = serving.reading_of(clip.path)
        with (
            closing(self.loaded.open_source(clip.path, reading, self.options, self.limits)) as source,
            self.report.labelling(clip, source.info.frame_count) as advance,
            closing(self.loaded.pipeline.label(source, chosen, None, people)) as labelled,
        ):
            chunk: list[Frame] = []
            for frame in tally.seen(serving.contract_frames(left_out.counted(labelled), source.info)):
                chunk.append(frame)
                outcome.frames += 1
                advance(frame.frame_index + 1)
                if len(chunk) == chunks.CHUNK_FRAMES or not frame.frame_index:  # the first frame is written at once
                    yield from _passed(chunk, held)
                    chunk.clear()
            yield from _passed(chunk, held)
        if held is not None:
            whole = tally.whole()
            for data in held:
                yield from whole.join(chunks.decode(data))
        outcome.warnings = [*source.warnings, *left_out.warnings()]
        outcome.seconds = time.monotonic() - started


def _passed(chunk: list[Frame], held: list[bytes] | None) -> Iterator[Frame]:
    """A chunk's frames, rounded; none if they are buffered."""
    data = chunks.encode(chunk)
    if held is None:
        yield from chunks.decode(data)
    else:
        held.append(data)
