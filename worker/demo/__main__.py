"""`python -m worker.demo`: the whole service on this machine, and one video through it."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mien import Client, Job, MienError
from worker.demo import DemoError
from worker.demo.clip import make_clip
from worker.demo.report import Summary, draw_frame
from worker.demo.stack import Stack, running

KEPT_PORT = 8000
TABLE_COLUMNS = 120  # if the output is not a terminal
INTERRUPTED = 130  # exit status, by shell convention


def demo(
    video: Annotated[Path | None, typer.Option(help="Video to label; default: a generated clip.")] = None,
    keep: Annotated[bool, typer.Option(help=f"Keep the services running on port {KEPT_PORT}.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the CSV and the picture.")] = Path("demo-output"),
) -> None:
    """Start Redis, API and worker, post a video, print its labels, and stop them again."""
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else TABLE_COLUMNS)
    try:
        if video is not None and not video.is_file():
            raise DemoError(f"no such file: {video}")
        with console.status("starting Redis, API and worker ...") as status:
            stack = running(KEPT_PORT if keep else None, status.update)
            with stack as services:
                status.stop()
                _introduce(console, services)
                if keep:
                    _serve(console, services)
                else:
                    _label(console, services, video, out)
    except (DemoError, MienError, httpx.HTTPError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("stopped")
        raise typer.Exit(0 if keep else INTERRUPTED) from None


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _introduce(console: Console, services: Stack) -> None:
    for worker in services.ready["workers"]:
        console.print(
            f"API at {services.url}; worker {worker['state']}: bundle {worker['bundle']} {worker['version']}, "
            f"device {worker['device']}, detector {worker['detector']}"
        )


def _label(console: Console, services: Stack, video: Path | None, out: Path) -> None:
    """Post the video, follow the job, show and write the results."""
    with tempfile.TemporaryDirectory(prefix="mien-clip-") as folder, Client(services.url, key=_key()) as client:
        source = video or make_clip(Path(folder) / "astronaut.mp4")
        console.print(f"posting {source.name} ({source.stat().st_size} bytes)")
        job = _follow(console, services, client, client.submit(source))
        if job["state"] != "succeeded":
            error = job["error"]
            why = f": {error['code']}: {error['detail']}" if error else ""
            raise DemoError(f"the job {job['state']}{why}")
        labels = job["labels"] or []
        summary = Summary.of(client.frames(job))
        if summary.with_faces:
            console.print(summary.table(labels))
        model = job["model"]
        console.print(f"Detector {job['detector']}, model {model['name']} {model['version']}.")
        for warning in job["warnings"]:
            console.print(f"Warning: {warning}")
        out.mkdir(parents=True, exist_ok=True)
        csv, picture = out / "labels.csv", out / "frame.png"
        client.save(job, csv)
        written = [csv]
        if summary.best is not None:
            draw_frame(source, summary.best, labels, picture)
            written.append(picture)
        console.print(summary.verdict())
        console.print("Written: " + ", ".join(map(str, written)))


def _key() -> str | None:
    """An API key, if the service's settings have any."""
    keys = [key.strip() for key in os.environ.get("MIEN_API_KEYS", "").split(",") if key.strip()]
    return keys[0] if keys else None


def _follow(console: Console, services: Stack, client: Client, job: Job) -> Job:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(job["state"], total=None)
        for now in client.watch(job):
            services.check()
            done = now["progress"]
            progress.update(task, description=now["state"], completed=done["frames_done"], total=done["frames_total"])
        return now


def _serve(console: Console, services: Stack) -> None:
    """Print how to use the services, and run them until Ctrl-C."""
    console.print(
        f"""
Open {services.url}/ in a browser, or submit a video as a form or as the raw body, and use the id in the answer:

  curl -F file=@video.mp4 {services.url}/v1/jobs
  curl -X POST -T video.mp4 -H 'Content-Type: video/mp4' {services.url}/v1/jobs
  curl '{services.url}/v1/jobs/ID?wait=30'
  curl '{services.url}/v1/jobs/ID/frames?limit=100'
  curl '{services.url}/v1/jobs/ID/frames?format=csv'

Documentation: {services.url}/docs    Logs: {services.logs}    Ctrl-C stops everything.
""",
        soft_wrap=True,
        markup=False,
    )
    while True:
        services.check()
        time.sleep(1)


if __name__ == "__main__":
    typer.run(demo)
