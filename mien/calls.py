"""The requests of each operation, independent of transport; `Client` and `AsyncClient` share them.

An operation is a generator: it yields a `Call`, is sent the response, and returns its result.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import httpx

from mien.errors import ApiError
from mien.types import Batch, Job

LARGE_BYTES = 50 * 2**20  # files of this size or more are sent as resumable uploads
CHUNK_BYTES = 16 * 2**20  # size of a request of a resumable upload
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
TRIED_AGAIN = frozenset({408, 425, 429, 502, 503, 504, 507})
GONE = frozenset({404, 410})
REFUSED = frozenset({400, 404, 410, 413, 415, 422})
TUS = {"Tus-Resumable": "1.0.0"}

Result = TypeVar("Result")
Steps = Generator["Call", httpx.Response, Result]


@dataclass(frozen=True)
class Call:
    """A request.  file: sent as the form's `file`, from its beginning.  takes: error statuses that count as success.

    again: further statuses after which it is retried.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = None
    file: IO[bytes] | None = None
    json: Any = None
    content: bytes | None = None
    takes: frozenset[int] = frozenset()
    again: frozenset[int] = frozenset()

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for httpx."""
        given: dict[str, Any] = {"params": self.params, "headers": self.headers}
        if self.file is not None:
            self.file.seek(0)
            given |= {"data": self.form, "files": {"file": (Path(self.file.name).name, self.file)}}
        elif self.content is not None:
            given["content"] = self.content
        elif self.json is not None:
            given["json"] = self.json
        return given


def pause_s(call: Call, attempt: int, outcome: httpx.Response | httpx.TransportError, retries: int) -> float | None:
    """The backoff before a retry of the call; None if its outcome is final.  attempt: from 0."""
    failed = isinstance(outcome, httpx.TransportError) or outcome.status_code in TRIED_AGAIN | call.again
    if not failed or attempt >= retries:
        return None
    wanted = "" if isinstance(outcome, httpx.TransportError) else outcome.headers.get("retry-after", "")
    if wanted.isdecimal():
        return min(float(wanted), LONGEST_PAUSE_S)
    return min(FIRST_PAUSE_S * 2.0**attempt, LONGEST_PAUSE_S) * random.uniform(0.8, 1.2)  # noqa: S311  # no secret


def checked(call: Call, outcome: httpx.Response | httpx.TransportError) -> httpx.Response:
    """The response.  Raises: ApiError if it is an error; httpx.TransportError."""
    if isinstance(outcome, httpx.TransportError):
        raise outcome
    if outcome.is_error and outcome.status_code not in call.takes:
        raise ApiError(outcome)
    return outcome


def submit(file: IO[bytes], options: Mapping[str, Any], key: str, note: Path | None = None) -> Steps[tuple[Job, bool]]:
    """Submit a video -> the job, and whether an earlier request with the same key had created it.

    note: a file that stores the id of a large file's upload, so that a later call with the same key continues it; the
    caller removes it.
    """
    file.seek(0, 2)
    length = file.tell()
    if length < LARGE_BYTES:
        form = {name: text(value) for name, value in options.items() if value is not None}
        response = yield Call("POST", "/v1/jobs", headers={"Idempotency-Key": key}, form=form, file=file)
    else:
        response = yield from _submit_large(file, length, options, key, note)
    return cast(Job, response.json()), response.headers.get("idempotency-replayed") == "true"


def text(value: Any) -> str:
    """An option as text of a form field."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)


def _submit_large(
    file: IO[bytes], length: int, options: Mapping[str, Any], key: str, note: Path | None
) -> Steps[httpx.Response]:
    """Send the file as a resumable upload, and make a job of it."""
    upload, offset = _noted(note, key), 0
    if upload:
        head = yield Call("HEAD", f"/v1/uploads/{upload}", headers=TUS, takes=GONE)
        if head.is_success:
            offset = int(head.headers["upload-offset"])
        else:  # it has expired, or there is a job of it already
            response = yield _job_of(upload, options, key)
            if response.is_success:
                return response
            upload = ""
    if not upload:
        name = base64.b64encode(Path(file.name).name.encode()).decode()
        headers = {**TUS, "Upload-Length": str(length), "Upload-Metadata": f"filename {name}"}
        created = yield Call("POST", "/v1/uploads", headers=headers)
        upload = created.headers["location"].rsplit("/", 1)[-1]
        if note is not None:
            note.write_text(json.dumps({"key": key, "upload": upload}))
    yield from _send_from(file, offset, length, upload)
    response = yield _job_of(upload, options, key)
    if response.is_error:  # a retry cannot succeed
        yield Call("DELETE", f"/v1/uploads/{upload}", headers=TUS, takes=GONE)
        raise ApiError(response)
    return response


def _send_from(file: IO[bytes], offset: int, length: int, upload: str) -> Steps[None]:
    path = f"/v1/uploads/{upload}"
    while offset < length:
        file.seek(offset)
        headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        # 409 if a cut request had stored bytes.
        response = yield Call("PATCH", path, headers=headers, content=file.read(CHUNK_BYTES), takes=frozenset({409}))
        if "upload-offset" not in response.headers:
            response = yield Call("HEAD", path, headers=TUS)
        offset = int(response.headers["upload-offset"])


def _job_of(upload: str, options: Mapping[str, Any], key: str) -> Call:
    """Its error responses are returned.  409: a cut request is still being processed."""
    content = {**options, "upload": upload}
    headers = {"Idempotency-Key": key}
    return Call("POST", "/v1/jobs", headers=headers, json=content, takes=REFUSED, again=frozenset({409}))


def _noted(note: Path | None, key: str) -> str:
    """The id of the upload in a note, or an empty string."""
    try:
        noted = json.loads(note.read_text()) if note is not None else {}
        return str(noted["upload"]) if noted.get("key") == key else ""
    except (FileNotFoundError, ValueError):
        return ""


def job(job_id: str, wait: float = 0) -> Steps[Job]:
    """The job now, or when its state or progress changes, at most after `wait` seconds."""
    response = yield Call("GET", f"/v1/jobs/{job_id}", {"wait": round(wait)} if wait else {})
    return cast(Job, response.json())


def page(job_id: str, start: int, members: bool) -> Steps[dict[str, Any]]:
    """A page of records from a position on."""
    query = {"from": start, "limit": 1000, **({"members": "true"} if members else {})}
    response = yield Call("GET", f"/v1/jobs/{job_id}/frames", query)
    return cast(dict[str, Any], response.json())


def jobs(query: Mapping[str, Any]) -> Steps[dict[str, Any]]:
    """A page of the list of jobs."""
    response = yield Call("GET", "/v1/jobs", query)
    return cast(dict[str, Any], response.json())


def cancel(job_id: str) -> Steps[Job]:
    """Cancel a job."""
    response = yield Call("POST", f"/v1/jobs/{job_id}/cancel")
    return cast(Job, response.json())


def delete(path: str) -> Steps[None]:
    """Remove a resource, which may already be gone."""
    yield Call("DELETE", path, takes=GONE)


def batch(name: str) -> Steps[Batch]:
    """The state of a batch."""
    response = yield Call("GET", f"/v1/batches/{name}")
    return cast(Batch, response.json())
