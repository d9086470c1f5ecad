"""The blocking and the asyncio client; `calls` has their requests."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal, Self

import httpx

from mien import calls
from mien.calls import Call, Result, Steps
from mien.errors import JobFailedError
from mien.types import ENDED, Batch, Format, Job, Record

URL = "http://127.0.0.1:8000"
TIMEOUT_S = 90.0  # longer than the longest poll
RETRIES = 6
POLL_S = 30


def _arguments(url: str, key: str | None, timeout_s: float) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {"base_url": url, "headers": headers, "timeout": timeout_s}


class Client:
    """A client of one service, to be used as a context manager; its methods may be called from several threads.

    key: an API key, if the service requires one.  retries: most retries of a request without an answer, or with an
    answer that permits them; they use backoff and honour `Retry-After`.

    Every method raises ApiError and httpx.TransportError.
    """

    def __init__(
        self, url: str = URL, *, key: str | None = None, timeout_s: float = TIMEOUT_S, retries: int = RETRIES
    ) -> None:
        self._http = httpx.Client(**_arguments(url, key, timeout_s))
        self._retries = retries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def label(self, video: str | Path, *, members: bool = False, **options: Any) -> Iterator[Record]:
        """Submit a video and yield its frame records on arrival.  Raises: JobFailedError, at the end."""
        job = self.submit(video, **options)
        yield from self.frames(job, members=members)
        ended = self.job(job)
        if ended["state"] != "succeeded":
            raise JobFailedError(ended)

    def submit(self, video: str | Path, *, idempotency_key: str | None = None, **options: Any) -> Job:
        """Submit a video, an archive or an image; options as in the API's table.  The same key returns the same job."""
        return self.submit_once(video, idempotency_key or uuid.uuid4().hex, **options)[0]

    def submit_once(
        self, video: str | Path, idempotency_key: str, *, note: Path | None = None, **options: Any
    ) -> tuple[Job, bool]:
        """As `submit` -> the job, and whether an earlier request had created it.

        note: a file that stores the state of a large upload, so that another process can continue it; remove it when
        the job is no longer needed.
        """
        with open(video, "rb") as file:
            return self._run(calls.submit(file, options, idempotency_key, note))

    def job(self, job: Job | str, *, wait_s: float = 0) -> Job:
        """The job now, or when its state or progress changes, at most after `wait_s` seconds (60 at most)."""
        return self._run(calls.job(_id(job), wait_s))

    def watch(self, job: Job | str) -> Iterator[Job]:
        """The job at every change, the last time when it has ended."""
        now = self.job(job)
        yield now
        while now["state"] not in ENDED:
            now = self.job(now, wait_s=POLL_S)
            yield now

    def wait(self, job: Job | str) -> Job:
        """The job when it has ended, in whatever state."""
        for now in self.watch(job):  # noqa: B007
            pass
        return now

    def frames(self, job: Job | str, *, members: bool = False) -> Iterator[Record]:
        """All frame records, in order, also while the job runs; ends with the job."""
        position, more = 0, True
        while more:
            page = self._run(calls.page(_id(job), position, members))
            yield from page["frames"]
            position, more = position + len(page["frames"]), page["next"] is not None
            if more and not page["frames"]:
                self.job(job, wait_s=POLL_S)

    def save(self, job: Job | str, path: str | Path, *, format: Format = "csv", members: bool = False) -> None:
        """Write the frame records so far to a file, atomically."""
        query = {"format": format, **({"members": "true"} if members else {})}
        self._save(f"/v1/jobs/{_id(job)}/frames", query, Path(path))

    def save_batch(self, name: str, path: str | Path, *, format: Literal["csv", "ndjson", "parquet"] = "csv") -> None:
        """Write the frame records of all jobs of a batch to a file."""
        self._save(f"/v1/batches/{name}/frames", {"format": format}, Path(path))

    def jobs(self, **filters: Any) -> Iterator[Job]:
        """The caller's jobs, newest first; filters as of `GET /v1/jobs`."""
        query: dict[str, Any] | None = filters
        while query is not None:
            page = self._run(calls.jobs(query))
            yield from page["jobs"]
            query = _next(filters, page["next"])

    def cancel(self, job: Job | str) -> Job:
        """Cancel a job."""
        return self._run(calls.cancel(_id(job)))

    def delete(self, job: Job | str) -> None:
        """Remove a job with its input and results."""
        self._run(calls.delete(f"/v1/jobs/{_id(job)}"))

    def batch(self, name: str) -> Batch:
        """The state of a batch."""
        return self._run(calls.batch(name))

    def delete_batch(self, name: str) -> None:
        """Remove all jobs of a batch."""
        self._run(calls.delete(f"/v1/batches/{name}"))

    def _run(self, steps: Steps[Result]) -> Result:
        response: httpx.Response | None = None
        while True:
            try:
                call = next(steps) if response is None else steps.send(response)
            except StopIteration as done:
                result: Result = done.value
                return result
            response = self._send(call)

    def _send(self, call: Call) -> httpx.Response:
        attempt = 0
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = self._http.request(call.method, call.path, **call.arguments())
            except httpx.TransportError as error:
                outcome = error
            pause_s = calls.pause_s(call, attempt, outcome, self._retries)
            if pause_s is None:
                return calls.checked(call, outcome)
            time.sleep(pause_s)
            attempt += 1

    def _save(self, url: str, query: dict[str, str], path: Path) -> None:
        part = part_of(path)
        call = Call("GET", url, query)
        attempt = 0
        try:
            while True:
                outcome: httpx.Response | httpx.TransportError
                try:
                    with self._http.stream("GET", url, params=query) as outcome, part.open("wb") as file:
                        if outcome.is_error:
                            outcome.read()  # the problem, for `checked`
                        for piece in outcome.iter_bytes():
                            file.write(piece)
                except httpx.TransportError as error:
                    outcome = error
                pause_s = calls.pause_s(call, attempt, outcome, self._retries)
                if pause_s is None:
                    calls.checked(call, outcome)
                    part.replace(path)
                    return
                time.sleep(pause_s)
                attempt += 1
        finally:
            part.unlink(missing_ok=True)


class AsyncClient:
    """As `Client`, for asyncio."""

    def __init__(
        self, url: str = URL, *, key: str | None = None, timeout_s: float = TIMEOUT_S, retries: int = RETRIES
    ) -> None:
        self._http = httpx.AsyncClient(**_arguments(url, key, timeout_s))
        self._retries = retries

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def label(self, video: str | Path, *, members: bool = False, **options: Any) -> AsyncIterator[Record]:
        """Submit a video and yield its frame records on arrival.  Raises: JobFailedError, at the end."""
        job = await self.submit(video, **options)
        async for record in self.frames(job, members=members):
            yield record
        ended = await self.job(job)
        if ended["state"] != "succeeded":
            raise JobFailedError(ended)

    async def submit(self, video: str | Path, *, idempotency_key: str | None = None, **options: Any) -> Job:
        """Submit a video, an archive or an image; options as in the API's table.  The same key returns the same job."""
        with open(video, "rb") as file:  # noqa: ASYNC230  # httpx reads it piece by piece
            return (await self._run(calls.submit(file, options, idempotency_key or uuid.uuid4().hex)))[0]

    async def job(self, job: Job | str, *, wait_s: float = 0) -> Job:
        """The job now, or when its state or progress changes, at most after `wait_s` seconds (60 at most)."""
        return await self._run(calls.job(_id(job), wait_s))

    async def watch(self, job: Job | str) -> AsyncIterator[Job]:
        """The job at every change, the last time when it has ended."""
        now = await self.job(job)
        yield now
        while now["state"] not in ENDED:
            now = await self.job(now, wait_s=POLL_S)
            yield now

    async def wait(self, job: Job | str) -> Job:
        """The job when it has ended, in whatever state."""
        async for now in self.watch(job):  # noqa: B007
            pass
        return now

    async def frames(self, job: Job | str, *, members: bool = False) -> AsyncIterator[Record]:
        """All frame records, in order, also while the job runs; ends with the job."""
        position, more = 0, True
        while more:
            page = await self._run(calls.page(_id(job), position, members))
            for record in page["frames"]:
                yield record
            position, more = position + len(page["frames"]), page["next"] is not None
            if more and not page["frames"]:
                await self.job(job, wait_s=POLL_S)

    async def jobs(self, **filters: Any) -> AsyncIterator[Job]:
        """The caller's jobs, newest first; filters as of `GET /v1/jobs`."""
        query: dict[str, Any] | None = filters
        while query is not None:
            page = await self._run(calls.jobs(query))
            for job in page["jobs"]:
                yield job
            query = _next(filters, page["next"])

    async def cancel(self, job: Job | str) -> Job:
        """Cancel a job."""
        return await self._run(calls.cancel(_id(job)))

    async def delete(self, job: Job | str) -> None:
        """Remove a job with its input and results."""
        await self._run(calls.delete(f"/v1/jobs/{_id(job)}"))

    async def batch(self, name: str) -> Batch:
        """The state of a batch."""
        return await self._run(calls.batch(name))

    async def delete_batch(self, name: str) -> None:
        """Remove all jobs of a batch."""
        await self._run(calls.delete(f"/v1/batches/{name}"))

    async def _run(self, steps: Steps[Result]) -> Result:
        response: httpx.Response | None = None
        while True:
            try:
                call = next(steps) if response is None else steps.send(response)
            except StopIteration as done:
                result: Result = done.value
                return result
            response = await self._send(call)

    async def _send(self, call: Call) -> httpx.Response:
        attempt = 0
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = await self._http.request(call.method, call.path, **call.arguments())
            except httpx.TransportError as error:
                outcome = error
            pause_s = calls.pause_s(call, attempt, outcome, self._retries)
            if pause_s is None:
                return calls.checked(call, outcome)
            await asyncio.sleep(pause_s)
            attempt += 1


def _id(job: Job | str) -> str:
    return job if isinstance(job, str) else job["id"]


def _next(filters: dict[str, Any], link: str | None) -> dict[str, Any] | None:
    """The query of the next page; only the cursor is taken from the link, since a proxy may change its address."""
    return None if link is None else {**filters, "cursor": httpx.URL(link).params["cursor"]}


def part_of(path: Path) -> Path:
    """The name of a file while it is written."""
    return path.with_name(f"{path.name}.part")
