"""`python -m app.admin`: operators' commands, with the settings of the front end.

Exit status: 0 on success, 2 on bad usage, 1 otherwise with one line on stderr.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar, cast

import typer
from pydantic import ValidationError
from redis.exceptions import RedisError

from app.admin import backup as archive
from app.admin import by_hand
from app.admin.office import CannotError, Office, open_office
from app.contract import keys
from app.contract.jobs import JobRecord, UnreadableRecordError
from app.contract.settings import described, mistakes
from app.http.auth import named_owner
from app.jobs.live_workers import Registry
from app.settings import Settings

BAD_USAGE = 2
KEY_BYTES = 32
Done = TypeVar("Done")

app = typer.Typer(add_completion=False, rich_markup_mode=None, epilog=described(Settings), no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="the job's id")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="a tar file")]


@app.command()
def workers() -> None:
    """List live workers: name, release, state, device, running jobs/slots, finished jobs, detail."""

    async def work(office: Office) -> None:
        for one in await Registry(office.redis).live_workers():
            jobs = f"{one.jobs_running}/{one.slots}"
            _row(one.name, one.release or "-", one.state, one.device or "-", jobs, one.jobs_done, one.detail or "")

    _run(work)


@app.command()
def queues() -> None:
    """List queues: name, number of waiting jobs, id of the next job."""

    async def work(office: Office) -> None:
        names = cast(set[bytes], await office.redis.smembers(keys.RQ_QUEUES))
        for name in sorted(name.decode().removeprefix(keys.rq_queue("")) for name in names):
            _row(name, await office.queueing.depth(name), await office.queueing.oldest(name) or "-")

    _run(work)


@app.command()
def drain(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="its name, as `workers` shows it")],
    off: Annotated[bool, typer.Option("--off", help="let it take jobs again")] = False,
) -> None:
    """Let a worker finish its jobs and take no others; it can then be stopped without loss."""

    async def work(office: Office) -> None:
        if off:
            await office.redis.delete(keys.drained(worker))
            return
        if worker not in {one.name for one in await Registry(office.redis).live_workers()}:
            raise CannotError(f"no live worker {worker}")
        await office.redis.set(keys.drained(worker), "1", ex=office.settings.result_ttl_s)

    _run(work)


@app.command()
def find(words: Annotated[str, typer.Argument(metavar="NAME", help="a part of a name, or an id's start")]) -> None:
    """Find jobs by name or id: id, state, creation time, worker, name."""

    async def work(office: Office) -> None:
        async for record in by_hand.find(office, words):
            made = record.created_at.isoformat(timespec="seconds")
            _row(record.id, record.state, made, record.worker or "-", record.name or "-")

    _run(work)


@app.command()
def requeue(job: JobId) -> None:
    """Requeue a running job, or an ended one whose input was kept, without charge."""
    _with_job(job, by_hand.requeue)


@app.command()
def fail(job: JobId) -> None:
    """End a waiting or running job as failed."""
    _with_job(job, by_hand.fail)


@app.command()
def purge(
    name: Annotated[str, typer.Argument(metavar="NAME", help="of a key in MIEN_API_KEYS_FILE")] = "",
    key_sha256: Annotated[str, typer.Option(help="instead, SHA-256 of a key of MIEN_API_KEYS, in hex")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Remove all jobs of a key, with their inputs and results."""
    if bool(name) == bool(key_sha256):
        raise typer.BadParameter("give a NAME, or --key-sha256")
    if not yes:
        typer.confirm(f"Remove all jobs of {name or key_sha256}?", abort=True, err=True)

    async def work(office: Office) -> None:
        count = await by_hand.purge(office, named_owner(name) if name else key_sha256.lower())
        typer.echo(f"{count} jobs removed")

    _run(work)


@app.command()
def verify() -> None:
    """Compare records, results and upload store; exit status 1 if there are inconsistencies."""

    async def work(office: Office) -> None:
        wrong = await by_hand.verify(office)
        for line in wrong:
            typer.echo(line)
        if wrong:
            raise CannotError(f"{len(wrong)} inconsistencies")

    _run(work)


@app.command()
def backup(file: File) -> None:
    """Write jobs, results, queues and the upload store into a tar file."""

    async def work(office: Office) -> None:
        count, files = await archive.backup(office, file)
        typer.echo(f"{file}: {count} keys, {files} files")

    _run(work)


@app.command()
def restore(file: File) -> None:
    """Restore a backup into a Redis without jobs."""

    async def work(office: Office) -> None:
        count, files = await archive.restore(office, file)
        typer.echo(f"{count} keys and {files} files restored")

    _run(work)


@app.command()
def key(name: Annotated[str, typer.Argument(metavar="NAME", help="owner of the key")]) -> None:
    """Make an API key and its line for MIEN_API_KEYS_FILE."""
    made = secrets.token_urlsafe(KEY_BYTES)
    typer.echo(f"API key for {name}, shown only now: {made}", err=True)
    typer.echo(f"{name} {hashlib.sha256(made.encode()).hexdigest()}")


def _with_job(job: str, do: Callable[[Office, JobRecord], Awaitable[str]]) -> None:
    async def work(office: Office) -> None:
        typer.echo(await do(office, await office.record(job)))

    _run(work)


def _run(work: Callable[[Office], Awaitable[Done]]) -> Done:
    try:
        settings = Settings()
    except ValidationError as error:
        print(*mistakes(error), sep="\n", file=sys.stderr)
        raise typer.Exit(BAD_USAGE) from None

    async def inside() -> Done:
        async with open_office(settings) as office:
            return await work(office)

    try:
        return asyncio.run(inside())
    except (CannotError, UnreadableRecordError, RedisError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


def _row(*cells: object) -> None:
    typer.echo("\t".join(str(cell) for cell in cells).rstrip())


if __name__ == "__main__":
    app()
