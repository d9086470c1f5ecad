"""`ETag` and 304: a client that has the newest version is told so in a few bytes."""

from __future__ import annotations

import hashlib

from fastapi import Request, Response

JSON = "application/json"


def etag(body: bytes) -> str:
    """The body's version."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def answer(request: Request, body: bytes, media_type: str = JSON) -> Response:
    """The body with its ETag, or 304 where the client has this version."""
    tag = etag(body)
    # `Vary` because `Accept` chooses the format; private because the answer belongs to a key.
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Accept, Authorization, X-API-Key"}
    if matches(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def matches(request: Request, tag: str) -> bool:
    """Whether `If-None-Match` names this version; compared weakly, as it is for GET (RFC 9110, 13.1.2)."""
    given = request.headers.get("if-none-match", "")
    names = [part.strip().removeprefix("W/") for part in given.split(",")]
    return tag in names or names == ["*"]
