"""`mien label`: label files by a service, several at once; a second run resumes the first.

Each file's `Idempotency-Key` is derived from its content and the options, so that a second run finds the jobs of the
first; files with an existing output are not sent again.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mien.client import URL, Client
from mien.errors import MienError
from mien.types import Job

AT_ONCE = 4
READ_BYTES = 2**20
BAD_USAGE = 2

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.callback()
def mien() -> None:
    """A client of a Mien service."""


@app.command()
def label(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="videos, archives or images")],
    server: Annotated[str, typer.Option(envvar="MIEN_SERVER", help="address of the service")] = URL,
    key: Annotated[str | None, typer.Option(envvar="MIEN_API_KEY", help="API key", show_envvar=True)] = None,
    format: Annotated[str, typer.Option(help="csv, ndjson, vtt, or another format of the API")] = "csv",
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
    names = [f"{video.stem}.{format}" for video in videos]
    twice = next((name for name in names if names.count(name) > 1), None)
    if missing:
        _refuse(f"no such file: {', '.join(missing)}")
    if twice:
        _refuse(f"several videos would be written to {out / twice}: label them into separate folders")
    if out.exists() and not out.is_dir():
        _refuse(f"--out {out} is a file: name a folder")
    out.mkdir(parents=True, exist_ok=True)
    with Client(server, key=key) as client, _Report(len(videos)) as report:
        run = _Run(client, options, format, out, members, delete, report)
        with ThreadPoolExecutor(jobs) as threads:
            started = [threads.submit(run.label, video) for video in videos]
            try:
                for done in as_completed(started):
                    done.result()
            except (
                BaseException
            ):  # Ctrl-C or an error: running jobs continue at the service, and a later run finds them
                threads.shutdown(wait=False, cancel_futures=True)
                run.stopped.set()
                raise
    if report.failed:
        print(f"error: {report.failed} of {len(videos)} videos could not be labelled", file=sys.stderr)
        raise typer.Exit(1)


def _options(given: list[str], batch: str | None) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in given]
    if wrong := next((name for name, equals, _ in pairs if not equals), None):
        _refuse(f"--option {wrong}: write NAME=VALUE")
    return {name: value for name, _, value in pairs} | ({"batch": batch} if batch else {})


def _refuse(why: str) -> None:
    print(f"error: {why}", file=sys.stderr)
    raise typer.Exit(BAD_USAGE)


@dataclass
class _Run:
    """Settings of the run, shared by all videos."""

    client: Client
    options: dict[str, str]
    format: str
    out: Path
    members: bool
    delete: bool
    report: _Report
    stopped: threading.Event = field(default_factory=threading.Event)

    def label(self, video: Path) -> None:
        """Label one video and write its file, unless the file exists."""
        path = self.out / f"{video.stem}.{self.format}"
        if path.exists():
            self.report.end(video, f"{path} exists already")
            return
        try:
            job = self._label(video)
            if job["state"] != "succeeded":
                error = job["error"]
                self.report.end(video, error["detail"] if error else f"the job was {job['state']}", failed=True)
                return
            self.client.save(job, path, format=self.format, members=self.members)
            if self.delete:
                self.client.delete(job)
        except (MienError, httpx.HTTPError, OSError) as error:
            self.report.end(video, str(error) or type(error).__name__, failed=True)
        else:
            self.report.end(video, f"{job['progress']['frames_done']} frames, {path}")

    def _label(self, video: Path) -> Job:
        """The video's ended job: the one of an earlier run, unless that failed."""
        with self.report.following(video) as show:
            job, former = self.client.submit_once(video, key_of(video, self.options), **self.options)
            if former and job["state"] in {"failed", "canceled"}:
                job = self.client.submit(video, idempotency_key=uuid.uuid4().hex, **self.options)
            for now in self.client.watch(job):
                show(now)
                if self.stopped.is_set():
                    break
        return now


def key_of(video: Path, options: dict[str, str]) -> str:
    """An idempotency key that is equal for equal content and options."""
    digest = hashlib.sha256(repr(sorted(options.items())).encode())
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
        self._done = 0
        self.failed = 0

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

    def end(self, video: Path, words: str, *, failed: bool = False) -> None:
        """Report a finished video."""
        with self._lock:
            self._done += 1
            self.failed += failed
            line = f"[{self._done}/{self._total}] {video}: {words}"
            self._console.print(line, style="red" if failed else None, markup=False)


def main() -> None:
    """Entry point."""
    try:
        app(prog_name="mien")
    except KeyboardInterrupt:
        os._exit(130)
