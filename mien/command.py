"""`mien label`: label files by a service, several at once; a second run resumes the first.

Each file's `Idempotency-Key` is derived from its name, content and options, so that a second run finds the jobs of the
first; a large file's upload is noted beside its output and continued.  Files whose output exists are not sent again.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mien.client import URL, Client, part_of
from mien.errors import ApiError, MienError
from mien.types import SUFFIXES, Format, Job

AT_ONCE = 4
READ_BYTES = 2**20
CHECK_S = 15.0  # timeout of the first request
BAD_USAGE = 2
INTERRUPTED = 130

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.callback()
def mien() -> None:
    """A client of a Mien service."""


@app.command()
def label(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="videos, archives or images")],
    server: Annotated[str, typer.Option(envvar="MIEN_SERVER", help="address of the service")] = URL,
    key: Annotated[str | None, typer.Option(envvar="MIEN_API_KEY", help="API key", show_envvar=True)] = None,
    format: Annotated[Format, typer.Option(help="of the files")] = "csv",
    out: Annotated[Path, typer.Option(help="folder for one file per video")] = Path(),
    members: Annotated[bool, typer.Option("--members", help="also write each member's scores")] = False,
    option: Annotated[
        list[str] | None, typer.Option(help="an option of the job, such as sample_fps=5; repeatable")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="name of a batch for all jobs")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="files to send at once")] = AT_ONCE,
    delete: Annotated[bool, typer.Option("--delete", help="remove each job once its file is written")] = False,
) -> None:
    """Label every video; exit status 1 if one of them could not be labelled."""
    options = _options(option or [], batch)
    missing = [str(video) for video in videos if not video.is_file()]
    outputs = [out / f"{video.stem}.{SUFFIXES.get(format, format)}" for video in videos]
    twice = next((output for output in outputs if outputs.count(output) > 1), None)
    if missing:
        _refuse(f"no such file: {', '.join(missing)}")
    if twice:
        _refuse(f"several videos would be written to {twice}: label them into separate folders")
    if out.exists() and not out.is_dir():
        _refuse(f"--out {out} is a file: name a folder")
    _check_server(server, key)
    out.mkdir(parents=True, exist_ok=True)
    with Client(server, key=key) as client, _Report(len(videos)) as report:
        run = _Run(client, options, format, members, delete, report)
        with ThreadPoolExecutor(jobs) as threads:
            try:
                started = [threads.submit(run.label, *both) for both in zip(videos, outputs, strict=True)]
                for done in as_completed(started):
                    done.result()
            except KeyboardInterrupt:
                report.interrupt()
                for output in outputs:
                    part_of(output).unlink(missing_ok=True)
                os._exit(INTERRUPTED)  # threads that wait for the service would delay the end
    report.summarise()
    if report.failed:
        _end(f"{len(report.failed)} of {len(videos)} videos could not be labelled")


def _options(given: list[str], batch: str | None) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in given]
    if wrong := next((name for name, equals, _ in pairs if not equals), None):
        _refuse(f"--option {wrong}: write NAME=VALUE")
    return {name: value for name, _, value in pairs} | ({"batch": batch} if batch else {})


def _check_server(server: str, key: str | None) -> None:
    """End the command if the service cannot be reached, refuses the key, or is none."""
    try:
        with Client(server, key=key, retries=0, timeout_s=CHECK_S) as client:
            next(client.jobs(limit=1), None)
    except ApiError as error:
        _end(f"{server}: {error}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        _end(f"{server} cannot be reached: {error or type(error).__name__}")
    except (ValueError, LookupError, TypeError):  # an answer of something else
        _end(f"{server} is not a Mien service")


def _refuse(why: str) -> NoReturn:
    _end(why, BAD_USAGE)


def _end(why: str, status: int = 1) -> NoReturn:
    print(f"error: {why}", file=sys.stderr)
    raise typer.Exit(status)


@dataclass
class _Run:
    """Settings of the run, shared by all videos."""

    client: Client
    options: dict[str, str]
    format: Format
    members: bool
    delete: bool
    report: _Report

    def label(self, video: Path, output: Path) -> None:
        """Label one video and write its file, unless it exists."""
        if output.exists():
            self.report.skip(video, output)
            return
        note = output.with_name(f".{output.name}.upload")
        try:
            job = self._label(video, note)
            if job["state"] == "succeeded":
                self.client.save(job, output, format=self.format, members=self.members)
                if self.delete:
                    self.client.delete(job)
        except (MienError, httpx.HTTPError, OSError) as error:
            self.report.fail(video, str(error) or type(error).__name__)
            return
        note.unlink(missing_ok=True)
        if job["state"] == "succeeded":
            self.report.succeed(video, job["progress"]["frames_done"], output)
        else:
            self.report.fail(video, job["error"]["detail"] if job["error"] else f"the job was {job['state']}")

    def _label(self, video: Path, note: Path) -> Job:
        """The video's ended job: the one of an earlier run, unless that failed."""
        with self.report.following(video) as show:
            job, former = self.client.submit_once(video, key_of(video, self.options), note=note, **self.options)
            if former and job["state"] in {"failed", "canceled"}:
                job = self.client.submit(video, idempotency_key=uuid.uuid4().hex, **self.options)
            for now in self.client.watch(job):
                show(now)
        return now


def key_of(video: Path, options: dict[str, str]) -> str:
    """An idempotency key that is equal for equal name, content and options."""
    digest = hashlib.sha256(repr((video.name, sorted(options.items()))).encode())
    with video.open("rb") as file:
        while data := file.read(READ_BYTES):
            digest.update(data)
    return f"mien-label-{digest.hexdigest()}"


class _Report:
    """Progress: on a terminal a bar per running video; otherwise a line per finished video."""

    def __init__(self, total: int) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        self._bars = Progress(
            *columns,
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._lock = threading.Lock()
        self._total = total
        self._frames = 0
        self._labelled = 0
        self._skipped = 0
        self.failed: list[tuple[Path, str]] = []

    def __enter__(self) -> _Report:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextmanager
    def following(self, video: Path) -> Iterator[Callable[[Job], None]]:
        """Show a video's progress inside the block.  Yields a function that takes its job."""
        task = self._bars.add_task(f"{video.name} sending", total=None)

        def show(job: Job) -> None:
            progress = job["progress"]
            self._bars.update(
                task,
                description=f"{video.name} {job['state']}",
                completed=progress["frames_done"],
                total=progress["frames_total"],
            )

        try:
            yield show
        finally:
            self._bars.remove_task(task)

    def succeed(self, video: Path, frames: int, output: Path) -> None:
        """A video's file is written."""
        with self._lock:
            self._labelled += 1
            self._frames += frames
            self._say(f"{self._count()} {video}: {frames} frames, {output}")

    def skip(self, video: Path, output: Path) -> None:
        """A video's file exists already."""
        with self._lock:
            self._skipped += 1
            self._say(f"{self._count()} {video}: {output} exists already")

    def fail(self, video: Path, why: str) -> None:
        """A video could not be labelled."""
        with self._lock:
            self.failed.append((video, why))
            self._say(f"{self._count()} {video}: {why}", "red")

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._bars.stop()
        self._say("interrupted; run the same command again to continue", "yellow")

    def summarise(self) -> None:
        """Of several videos: how many were labelled, and which could not be."""
        if self._total == 1:
            return
        parts = [f"{self._labelled} labelled ({self._frames} frames)"]
        parts += [f"{self._skipped} skipped"] if self._skipped else []
        parts += [f"{len(self.failed)} failed:"] if self.failed else []
        self._say(f"{self._total} videos: {', '.join(parts)}")
        for video, why in self.failed:
            self._say(f"  {video}: {why}", "red")

    def _count(self) -> str:
        return f"[{self._labelled + self._skipped + len(self.failed)}/{self._total}]"

    def _say(self, line: str, style: str | None = None) -> None:
        self._console.print(line, style=style, markup=False)


def main() -> None:
    """Entry point."""
    app(prog_name="mien")
