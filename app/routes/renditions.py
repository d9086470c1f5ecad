"""Renditions of a job's kept input, made on request: annotated video, preview, thumbnail."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from app.contract.jobs import ENDED, JobRecord
from app.contract.renditions import PREVIEW, THUMBNAIL, VIDEO, VIDEOS, Rendition, Style
from app.http.errors import Conflict, NotFound
from app.http.links import LinkMaker, job_path
from app.http.openapi_examples import problems, rendition
from app.http.prefer import MAX_WAIT_S
from app.routes.dependencies import LinksDep, RecordDep, ServicesDep
from app.services import Services

router = APIRouter(prefix="/v1/jobs", tags=["results"])

DEFAULT_WAIT_S = 30
POLL_S = 0.25
RETRY_AFTER_S = 5
ASKED_TTL_S = 3600  # timeout of a rendition without progress; the next request starts it again
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class Rendering(BaseModel):
    """A video or picture that is not ready yet."""

    job_id: str
    state: Literal["queued", "running"]
    progress: float | None = Field(None, description="0..1; null if unknown")


Wait = Annotated[int, Query(ge=0, le=MAX_WAIT_S, description="Wait at most this many seconds until it is ready.")]
StyleQuery = Annotated[
    Style,
    Query(description="`boxes` and labels of the job, or every face hidden: `blur`, `pixelate`."),
]
Range = Annotated[str | None, Header(alias="Range", description="A part of the video, as players request it.")]


@router.get(
    "/{job_id}/video",
    summary="Annotated video",
    response_class=Response,
    responses={**rendition(VIDEO, Rendering), **problems(401, 404, 409, 410, 422, 429, 503)},
)
async def get_video(
    record: RecordDep,
    services: ServicesDep,
    links: LinksDep,
    style: StyleQuery = "boxes",
    wait: Wait = DEFAULT_WAIT_S,
    range: Range = None,
) -> Response:
    """The input, with its sound and with boxes and labels drawn, or with its faces hidden.

    The first call starts the rendering; 202 if it takes longer than `wait`.
    """
    if record.state not in ENDED:
        raise Conflict(f"The job is {record.state}; its video can be made when it has ended.")
    return await _made(VIDEOS[style], record, services, links, wait, range)


@router.get(
    "/{job_id}/preview",
    summary="Preview",
    response_class=Response,
    responses={**rendition(PREVIEW, Rendering), **problems(401, 404, 409, 410, 422, 429, 503)},
)
async def get_preview(
    record: RecordDep, services: ServicesDep, links: LinksDep, wait: Wait = DEFAULT_WAIT_S, range: Range = None
) -> Response:
    """The input in a form that every browser plays, with its own times, at most 720 lines high, without sound."""
    return await _made(PREVIEW, record, services, links, wait, range)


@router.get(
    "/{job_id}/thumbnail",
    summary="Thumbnail",
    response_class=Response,
    responses={**rendition(THUMBNAIL, Rendering), **problems(401, 404, 409, 410, 422, 429, 503)},
)
async def get_thumbnail(
    record: RecordDep, services: ServicesDep, links: LinksDep, wait: Wait = DEFAULT_WAIT_S
) -> Response:
    """The job's best face as a small picture, rendered on request; 404 if the job has no face."""
    if record.state not in ENDED:
        raise Conflict(f"The job is {record.state}; its thumbnail can be made when it has ended.")
    if record.label_shares == {}:
        raise NotFound("The job has no face.")
    return await _made(THUMBNAIL, record, services, links, wait, None)


async def _made(
    kind: Rendition, record: JobRecord, services: Services, links: LinkMaker, wait: int, range: str | None
) -> Response:
    deadline = time.monotonic() + wait
    while True:
        size = await asyncio.to_thread(_size, services, record.id, kind)
        if size is not None:
            return _answer(services, record.id, kind, size, range)
        state, share = await _ask(services, record, kind)
        if state == "done":
            continue
        if time.monotonic() >= deadline or services.changes.stopping:
            location = links.path(f"{job_path(record.id)}/{kind.path}")
            headers = {"Retry-After": str(RETRY_AFTER_S), "Location": location}
            body = Rendering(job_id=record.id, state=state, progress=share).model_dump_json()
            return Response(body, 202, headers, "application/json")
        await asyncio.sleep(POLL_S)


async def _ask(
    services: Services, record: JobRecord, kind: Rendition
) -> tuple[Literal["queued", "running", "done"], float | None]:
    """Enqueue the rendition, unless it is queued, running or done -> its state and progress.

    Raises: Conflict if it cannot be rendered.
    """
    fields = cast(dict[bytes, bytes], await services.redis.hgetall(kind.key(record.id)))
    state = fields.get(b"state", b"")
    if state == b"failed":
        raise Conflict(f"The {kind.shown} cannot be made: {fields.get(b'detail', b'').decode()}.")
    if state == b"queued":
        return "queued", None
    if state == b"running":
        return "running", float(fields[b"share"]) if b"share" in fields else None
    if state == b"done" and await asyncio.to_thread(_size, services, record.id, kind) is not None:
        return "done", None  # it has just become ready
    if record.input_deleted or not await asyncio.to_thread(services.uploads.exists, record.id):
        raise Conflict(f"The input was not kept; submit with keep_input=true to have a {kind.shown}.")
    await services.queueing.enqueue_render(kind, record.id, state, ASKED_TTL_S)
    return "queued", None


def _size(services: Services, job_id: str, kind: Rendition) -> int | None:
    try:
        return services.uploads.size(job_id, kind.name)
    except FileNotFoundError:
        return None


def _answer(services: Services, job_id: str, kind: Rendition, size: int, wanted: str | None) -> Response:
    """The file, or the requested range; requests for several ranges get the whole file."""
    headers = {"Accept-Ranges": "bytes", "Cache-Control": "private, max-age=300"}
    match = _RANGE.fullmatch(wanted or "")
    start, end, status = 0, size, 200
    if match and (match[1] or match[2]):
        start = int(match[1]) if match[1] else max(size - int(match[2]), 0)
        end = min(int(match[2]) + 1, size) if match[1] and match[2] else size
        if start >= end:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    return StreamingResponse(services.uploads.read(job_id, kind.name, start, end), status, headers, kind.content_type)
