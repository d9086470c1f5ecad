"""`python -m worker label`: label files on this machine, without Redis or the API."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.contract import chunks, exports
from app.contract.exports.content import Content
from app.contract.frames import Frame
from app.contract.options import JobOptions
from app.contract.segments import Smoothing
from model_store.bundle import BundleError
from worker.commands.job_options import PRIOR_HELP, job_options
from worker.core.devices import OutOfDeviceMemoryError
from worker.decode import DecodeLimits, DecoderError, DecoderLostError, LimitExceededError, UndecodableInputError
from worker.ensemble.precision import PrecisionError
from worker.errors import CommandError
from worker.faces import DetectorError
from worker.inference import serving
from worker.inference.left_out import LeftOutTally
from worker.settings import WorkerSettings, decode_limits


def command(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="videos, image folders or images")],
    faces: Annotated[Literal["detect", "cropped"], typer.Option(help="cropped: every frame is one face")] = "detect",
    format: Annotated[exports.ExportFormat, typer.Option(help="what to write")] = "json",
    members: Annotated[bool, typer.Option("--members", help="each member's own scores as well")] = False,
    out: Annotated[Path | None, typer.Option(help="folder for one file an input; stdout where absent")] = None,
    prior: Annotated[str | None, typer.Option(help=PRIOR_HELP)] = None,
    use_members: Annotated[str | None, typer.Option(help="subset of the members to fuse, such as cnn,cnn_rnn")] = None,
    sample_fps: Annotated[float | None, typer.Option(help="label at most so many frames a second")] = None,
    max_faces: Annotated[int, typer.Option(help="at most so many faces a frame: tracked ones, then the largest")] = 10,
    min_face_px: Annotated[float, typer.Option(help="smaller faces are left out")] = 16,
    min_score: Annotated[float | None, typer.Option(help="less certain faces are left out")] = None,
    fps: Annotated[float, typer.Option(help="frame rate of images")] = 30,
    start_s: Annotated[float | None, typer.Option(help="from this time on, seconds")] = None,
    end_s: Annotated[float | None, typer.Option(help="up to this time, seconds")] = None,
    smooth_s: Annotated[float, typer.Option(help="vtt: smooth scores over so many seconds")] = 0.3,
    min_segment_s: Annotated[float, typer.Option(help="vtt: the shortest segment, seconds")] = 0.4,
    unsure_below: Annotated[float, typer.Option(help="vtt: mark segments with a lower mean score")] = 0.4,
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
        smooth_s=smooth_s,
        min_segment_s=min_segment_s,
        unsure_below=unsure_below,
    )
    names = [_name(path, format) for path in inputs]
    if out is not None and (twice := [name for name in names if names.count(name) > 1]):
        raise CommandError(f"several inputs would be written to {out / twice[0]}: label them into folders of their own")
    settings = WorkerSettings()
    limits = decode_limits(settings)
    try:
        loaded = serving.load(settings)
    except (BundleError, serving.DeviceError, serving.DeviceFailedError, DetectorError, PrecisionError) as error:
        raise CommandError(str(error)) from None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    failed = [path for path in inputs if not _label_one(path, loaded, options, limits, format, members, out)]
    if failed:
        raise CommandError(f"{len(failed)} of {len(inputs)} inputs could not be labelled")


def _label_one(
    path: Path,
    loaded: serving.Serving,
    options: JobOptions,
    limits: DecodeLimits,
    format: exports.ExportFormat,
    members: bool,
    out: Path | None,
) -> bool:
    console = Console(stderr=True)
    try:
        frames = _frames(path, loaded, options, limits, console)
        names = loaded.pipeline.members(serving.label_options(options)) if members else ()
        content = Content(loaded.manifest.labels, names, Smoothing.chosen(options))
        pieces = exports.export(frames, format, content)
        if out is None:
            for piece in pieces:
                sys.stdout.write(piece)
        else:
            _write(out / _name(path, format), pieces)
    except BrokenPipeError:  # whoever read our output has enough of it: no fault of the input's
        raise
    except (
        UndecodableInputError,
        LimitExceededError,
        DecoderError,
        DecoderLostError,
        OutOfDeviceMemoryError,
        MemoryError,
        OSError,
        ValueError,
    ) as error:
        console.print(f"{path}: {str(error) or 'not enough memory'}", style="red", highlight=False)
        return False
    return True


def _name(path: Path, format: str) -> str:
    return f"{path.name if path.is_dir() else path.stem}.{format}"


def _write(path: Path, pieces: Iterable[str]) -> None:
    """All of a file or none of it."""
    beside = path.with_name(f"{path.name}.part")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.writelines(pieces)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _frames(
    path: Path, loaded: serving.Serving, options: JobOptions, limits: DecodeLimits, console: Console
) -> Iterator[Frame]:
    """The input's frames as the service would give them: through the chunk codec, which rounds."""
    if not path.exists():
        raise FileNotFoundError("no such file or folder")
    chosen = serving.label_options(options)
    left_out = LeftOutTally(chosen)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        closing(loaded.open_source(path, serving.reading_of(path), options, limits)) as source,
        Progress(*columns, console=console, transient=True) as progress,
        closing(loaded.pipeline.label(source, chosen)) as labelled,
    ):
        task = progress.add_task(path.name, total=source.info.frame_count)
        chunk: list[Frame] = []
        for frame in serving.contract_frames(left_out.counted(labelled), source.info):
            chunk.append(frame)
            progress.update(task, completed=frame.frame_index + 1)
            if len(chunk) == chunks.CHUNK_FRAMES or not frame.frame_index:  # the first is shown at once
                yield from chunks.decode(chunks.encode(chunk))
                chunk.clear()
        yield from chunks.decode(chunks.encode(chunk))
    for warning in [*source.warnings, *left_out.warnings()]:
        console.print(f"{path}: {warning}", style="yellow", highlight=False)
