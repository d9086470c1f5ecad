"""`ETag` and 304 for clients that have the newest version."""

from __future__ import annotations

import hashlib

from fastapi import Request, Response

from app.contract.jobs import JobRecord

JSON = "application/json"


def etag(body: bytes) -> str:
    """The body's version."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def etag_of(request: Request, record: JobRecord, what: str) -> str:
    """The ETag of a report of a job's results, known before it is computed, since it depends on the job's revision."""
    parts = (request.app.version, what, record.id, record.execution, str(record.revision))
    return etag(" ".join(parts).encode())


def answer(request: Request, body: bytes, media_type: str = JSON, tag: str = "") -> Response:
    """The body with its ETag, or 304 if the client has this version.  tag: the ETag, if known."""
    tag = tag or etag(body)
    if matches(request, tag):
        return unchanged(tag)
    return Response(body, media_type=media_type, headers=_headers(tag))


def unchanged(tag: str) -> Response:
    """304: the client has this version."""
    return Response(status_code=304, headers=_headers(tag))


def _headers(tag: str) -> dict[str, str]:
    # `Vary`, since `Accept` selects the format; private, since the response belongs to a key.
    return {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Accept, Authorization, X-API-Key"}


def matches(request: Request, tag: str) -> bool:
    """Whether `If-None-Match` names this version; compared weakly, as it is for GET (RFC 9110, 13.1.2)."""
    given = request.headers.get("if-none-match", "")
    names = [part.strip().removeprefix("W/") for part in given.split(",")]
    return tag in names or names == ["*"]
