"""The annotated video of a job, while its input is kept."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from app.contract import keys
from app.contract.jobs import ENDED, JobRecord
from app.contract.uploads import VIDEO
from app.http.errors import Conflict
from app.http.links import job_path
from app.http.openapi_examples import annotated_video, problems
from app.http.prefer import MAX_WAIT_S
from app.routes.dependencies import LinksDep, RecordDep, ServicesDep
from app.services import Services

router = APIRouter(prefix="/v1/jobs", tags=["results"])

MP4 = "video/mp4"
DEFAULT_WAIT_S = 30
POLL_S = 0.25
RETRY_AFTER_S = 5
ASKED_TTL_S = 3600  # a rendering of which nothing was heard for so long is asked for again
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class Rendering(BaseModel):
    """A video that is not ready yet."""

    job_id: str
    state: Literal["queued", "running"]


Wait = Annotated[int, Query(ge=0, le=MAX_WAIT_S, description="Wait so many seconds for the video to be ready.")]
Range = Annotated[str | None, Header(alias="Range", description="A part of the video, as players ask for it.")]


@router.get(
    "/{job_id}/video",
    summary="Annotated video",
    response_class=Response,
    responses={**annotated_video(Rendering), **problems(401, 404, 409, 410, 422, 429, 503)},
)
async def get_video(
    record: RecordDep,
    services: ServicesDep,
    links: LinksDep,
    wait: Wait = DEFAULT_WAIT_S,
    range: Range = None,
) -> Response:
    """The input with boxes and labels drawn.  The first call has it made; 202 where that takes longer than `wait`."""
    if record.state not in ENDED:
        raise Conflict(f"The job is {record.state}; its video can be made when it has ended.")
    deadline = time.monotonic() + wait
    while True:
        size = await asyncio.to_thread(_size, services, record.id)
        if size is not None:
            return _answer(services, record.id, size, range)
        state = await _ask(services, record)
        if state == "done":
            continue
        if time.monotonic() >= deadline or services.changes.stopping:
            headers = {"Retry-After": str(RETRY_AFTER_S), "Location": links.path(f"{job_path(record.id)}/video")}
            body = Rendering(job_id=record.id, state=state).model_dump_json()
            return Response(body, 202, headers, "application/json")
        await asyncio.sleep(POLL_S)


async def _ask(services: Services, record: JobRecord) -> Literal["queued", "running", "done"]:
    """Have the video made, unless that is under way or done.  Raises: Conflict if it cannot be made."""
    fields = cast(dict[bytes, bytes], await services.redis.hgetall(keys.render(record.id)))
    state = fields.get(b"state", b"")
    if state == b"failed":
        raise Conflict(f"The video cannot be made: {fields.get(b'detail', b'').decode()}.")
    if state == b"queued":
        return "queued"
    if state == b"running":
        return "running"
    if state == b"done" and await asyncio.to_thread(_size, services, record.id) is not None:
        return "done"  # it has become ready just now
    if record.input_deleted or not await asyncio.to_thread(services.uploads.exists, record.id):
        raise Conflict("The input was not kept; submit with keep_input=true to have a video.")
    await services.queueing.enqueue_render(record.id, state, ASKED_TTL_S)
    return "queued"


def _size(services: Services, job_id: str) -> int | None:
    try:
        return services.uploads.size(job_id, VIDEO)
    except FileNotFoundError:
        return None


def _answer(services: Services, job_id: str, size: int, wanted: str | None) -> Response:
    """The video, or the part of it that a player asks for (one range; others are answered with the whole)."""
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
    return StreamingResponse(services.uploads.read(job_id, VIDEO, start, end), status, headers, MP4)
