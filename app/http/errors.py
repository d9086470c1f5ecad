"""The API's error responses: RFC 9457 problems with stable codes.

    ProblemError
    ├── BadRequest            400  malformed_request
    ├── Unauthorized          401  unauthorized
    ├── NotFound              404  not_found
    ├── MethodNotAllowed      405  method_not_allowed
    ├── NotAcceptable         406  not_acceptable
    ├── UploadTooSlow         408  upload_too_slow
    ├── Conflict              409  conflict
    ├── Gone                  410  gone
    ├── UnsupportedVersion    412  unsupported_version
    ├── UploadTooLarge        413  upload_too_large
    ├── UnsupportedMedia      415  unsupported_media
    ├── InvalidOption         422  invalid_option
    ├── IdempotencyMismatch   422  idempotency_mismatch
    ├── RateLimited           429  rate_limited
    ├── TooManyUploads        429  too_many_uploads
    ├── QuotaExceeded         429  quota_exceeded
    ├── QueueFull             429  queue_full
    ├── ChecksumMismatch      460  checksum_mismatch
    ├── InternalError         500  internal
    ├── Unavailable           503  unavailable
    ├── ResultsFull           503  storage_full
    └── StorageFull           507  storage_full

Details are sentences for the client: never a path of this machine, never a traceback.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

import redis.exceptions
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount
from starlette.types import Scope

from app.contract.chunks import ChunkError
from app.contract.jobs import UnreadableRecordError

MEDIA_TYPE = "application/problem+json"
QUEUE_RETRY_S = 10
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

log = structlog.get_logger(__name__)


class Problem(BaseModel):
    """An error answer (RFC 9457).  `code` is stable, `detail` is for people."""

    type: str = Field("about:blank", description="a URI that identifies the kind of problem")
    title: str = Field(description="the kind of problem, in words")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what is wrong with this request, in words")
    code: str = Field(description="stable name of the kind of problem")
    request_id: str = Field(description="also in the X-Request-ID header; quote it when you ask for help")
    field: str | None = Field(None, description="the invalid option or parameter, if any")


class ProblemError(Exception):
    """An exception that becomes a problem response.  field: the invalid option.  headers: added to the response."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *, field: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.headers = dict(headers or {})


class BadRequest(ProblemError):
    """The body does not match its headers."""

    status, code, title = 400, "malformed_request", "Malformed request"


class Unauthorized(ProblemError):
    """The API key is missing or unknown."""

    status, code, title = 401, "unauthorized", "API key missing or unknown"

    def __init__(self, detail: str = "Send an API key: `Authorization: Bearer KEY` or `X-API-Key: KEY`.") -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="mien"'})


class NotFound(ProblemError):
    """It does not exist, or belongs to another key."""

    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(ProblemError):
    """The resource has no such method."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class NotAcceptable(ProblemError):
    """The resource has no format that `Accept` names."""

    status, code, title = 406, "not_acceptable", "Format not available"


class UploadTooSlow(ProblemError):
    """The body is slower than the minimum rate."""

    status, code, title = 408, "upload_too_slow", "Upload too slow"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Connection": "close"})


class Conflict(ProblemError):
    """The job's state does not allow this."""

    status, code, title = 409, "conflict", "Not possible in this state"


class Gone(ProblemError):
    """It has expired."""

    status, code, title = 410, "gone", "Expired"


class UnsupportedVersion(ProblemError):
    """The client speaks another version of the tus protocol, or none."""

    status, code, title = 412, "unsupported_version", "Version of the protocol not supported"


class UploadTooLarge(ProblemError):
    """The upload exceeds the limit of bytes or frames."""

    status, code, title = 413, "upload_too_large", "Upload too large"


class UnsupportedMedia(ProblemError):
    """The file's type is not supported."""

    status, code, title = 415, "unsupported_media", "Unsupported media"


class InvalidOption(ProblemError):
    """An option or parameter is unknown or has an invalid value."""

    status, code, title = 422, "invalid_option", "Invalid option"


class IdempotencyMismatch(ProblemError):
    """The key was used with another body."""

    status, code, title = 422, "idempotency_mismatch", "Idempotency-Key used with another body"


class RateLimited(ProblemError):
    """Too many requests a minute."""

    status, code, title = 429, "rate_limited", "Too many requests"


class QueueFull(ProblemError):
    """The queue is full."""

    status, code, title = 429, "queue_full", "Queue full"


class QuotaExceeded(ProblemError):
    """The caller's quota is used up."""

    status, code, title = 429, "quota_exceeded", "Quota exceeded"


class TooManyUploads(ProblemError):
    """Too many resumable uploads are open."""

    status, code, title = 429, "too_many_uploads", "Too many open uploads"


class ChecksumMismatch(ProblemError):
    """The checksum of the bytes differs from the client's."""

    status, code, title = 460, "checksum_mismatch", "Checksum mismatch"


class InternalError(ProblemError):
    """An unexpected error of the service."""


class Unavailable(ProblemError):
    """A part of the service is unavailable."""

    status, code, title = 503, "unavailable", "Service unavailable"


class ResultsFull(ProblemError):
    """Too little memory for the job and its results."""

    status, code, title = 503, "storage_full", "Storage full"


class StorageFull(ProblemError):
    """Too little disk space for the upload."""

    status, code, title = 507, "storage_full", "Storage full"


def problem_response(request: Request, error: ProblemError) -> JSONResponse:
    """The response for an error."""
    problem = Problem(
        title=error.title,
        status=error.status,
        detail=_printable(error.detail),
        code=error.code,
        request_id=request.scope.get("request_id", ""),
        field=None if error.field is None else _printable(error.field),
    )
    return JSONResponse(
        problem.model_dump(exclude_none=True), error.status, headers=error.headers, media_type=MEDIA_TYPE
    )


def _printable(text: str) -> str:
    """Escape control and direction characters, since a detail may quote a client's text to others."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def install(app: FastAPI) -> None:
    """Install handlers that turn every error into a problem response."""

    @app.exception_handler(ProblemError)
    async def _problem(request: Request, error: ProblemError) -> JSONResponse:
        return problem_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        if error.errors()[0]["type"] == "json_invalid":
            return problem_response(request, BadRequest("The body is not JSON."))
        return problem_response(request, invalid_option(error.errors()))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        return problem_response(request, _of_status(request, error))

    @app.exception_handler(redis.exceptions.RedisError)
    async def _redis(request: Request, error: redis.exceptions.RedisError) -> JSONResponse:
        return problem_response(request, of_redis(error))

    @app.exception_handler(ChunkError)
    async def _chunk(request: Request, error: ChunkError) -> JSONResponse:
        log.error("chunk_unreadable", detail=str(error))
        return problem_response(
            request, Unavailable("This job's frames are in a format that this release cannot read.")
        )

    @app.exception_handler(UnreadableRecordError)
    async def _record(request: Request, error: UnreadableRecordError) -> JSONResponse:
        log.error("job_unreadable", why=str(error))
        return problem_response(request, Unavailable("This job's record is in a format that this release cannot read."))

    @app.exception_handler(OSError)
    async def _os(request: Request, error: OSError) -> JSONResponse:
        log.error("storage_failed", error=type(error).__name__, errno=error.errno, exc_info=error)
        return problem_response(request, of_os(error))


def unexpected() -> InternalError:
    """An unexpected error, whose details are in the log."""
    return InternalError("An unexpected error occurred and was logged.")


def invalid_option(errors: Any) -> InvalidOption:
    """pydantic's list of errors -> a problem that names the first field."""
    first = errors[0]
    place = [str(part) for part in first["loc"] if part not in {"query", "path", "body", "header"}]
    reason = first["msg"].removeprefix("Value error, ")
    field = place[0] if place else None
    return InvalidOption(f"{field}: {reason}" if field else reason, field=field)


def of_redis(error: redis.exceptions.RedisError) -> ProblemError:
    """The problem for an error of Redis: unreachable, or full."""
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return results_full()
    log.error("redis_failed", error=type(error).__name__, detail=str(error))
    return Unavailable("The job store does not respond; try again shortly.", headers={"Retry-After": "5"})


def results_full() -> ResultsFull:
    """Redis is full, or its remaining memory is reserved for running jobs."""
    return ResultsFull("The result store is full; try again later.", headers={"Retry-After": "60"})


def queue_full(max_queue: int) -> QueueFull:
    """The problem for a full queue."""
    return QueueFull(
        f"{max_queue} jobs are already waiting; try again later.", headers={"Retry-After": str(QUEUE_RETRY_S)}
    )


def of_os(error: OSError) -> ProblemError:
    """The problem for an error of the upload store: failed, or full."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageFull("The upload store is full; try again later.", headers={"Retry-After": "60"})
    return Unavailable("The upload store does not respond; try again shortly.", headers={"Retry-After": "5"})


def _of_status(request: Request, error: HTTPException) -> ProblemError:
    """Starlette's own errors: unknown paths and methods."""
    headers = error.headers
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFound("There is nothing at this address.", headers=headers)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_methods(request))
        return MethodNotAllowed(f"This address supports: {allowed}.", headers={"Allow": allowed})
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return unexpected()
    return BadRequest(str(error.detail), headers=headers)


def _methods(request: Request) -> list[str]:
    """Methods of all routes at the request's path, found by trying each, since routers do not list them."""
    # Restore the scope's root path, which a mount changes.
    scope = {**request.scope, "root_path": request.scope.get("app_root_path", request.scope.get("root_path", ""))}
    found = [method for method in _METHODS if _is_taken(request, {**scope, "method": method})]
    return sorted([*found, "HEAD"] if "GET" in found else found)  # see `middleware.head`


def _is_taken(request: Request, scope: Scope) -> bool:
    for route in request.app.routes:
        if route.matches(scope)[0] is Match.FULL:
            return not isinstance(route, Mount) or scope["method"] == "GET"  # mounts hold files
    return False
