"""Server-sent events of a job.

The id of a `frames` event is the position after its last frame, so that `Last-Event-ID` resumes with the next frame:
each frame is sent exactly once, also after interruptions.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from app.contract.frames import frame_record
from app.contract.jobs import JobRecord
from app.http.errors import ProblemError
from app.http.gzip_stream import gzipped, takes_gzip
from app.http.links import LinkMaker
from app.http.openapi_examples import event_stream, problems
from app.jobs.results import Page, is_complete
from app.jobs.store import Seen
from app.routes.dependencies import LinksDep, RecordDep, ServicesDep
from app.routes.frames import MAX_POSITION, WithMembers
from app.routes.job_view import job_view
from app.services import Services

router = APIRouter(prefix="/v1/jobs", tags=["results"])

EVENT_FRAMES = 256  # maximum frames in one event
KEEP_ALIVE_S = 15  # proxies close idle connections
RECONNECT_MS = 2000
_POSITION = re.compile(r"[0-9]{1,10}")  # at most as many digits as MAX_POSITION

LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", description="Resume after this event.")]
AcceptEncoding = Annotated[str | None, Header(include_in_schema=False)]
From = Annotated[int, Query(alias="from", ge=0, le=MAX_POSITION, description="Position of the first frame.")]


@router.get(
    "/{job_id}/events",
    summary="Server-sent events",
    response_class=StreamingResponse,
    responses={**event_stream(), **problems(401, 404, 410, 422, 429, 503)},
)
async def get_events(
    record: RecordDep,
    services: ServicesDep,
    links: LinksDep,
    start: From = 0,
    members: WithMembers = False,
    last_event_id: LastEventId = None,
    accept_encoding: AcceptEncoding = None,
) -> StreamingResponse:
    """`progress` and `frames` while the job runs, then `succeeded`, `failed` or `canceled`, after which it closes."""
    given = last_event_id or ""
    resumed = _POSITION.fullmatch(given) is not None and int(given) <= MAX_POSITION
    position = int(given) if resumed else start
    stream = _events(services, record, links, position, members)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept-Encoding"}
    if takes_gzip(accept_encoding):
        headers["Content-Encoding"] = "gzip"
        return StreamingResponse(gzipped(stream), media_type="text/event-stream", headers=headers)
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


async def _events(
    services: Services, record: JobRecord, links: LinkMaker, position: int, members: bool
) -> AsyncIterator[str]:
    yield f"retry: {RECONNECT_MS}\n\n"
    shown = -1
    last_sent = time.monotonic()
    with services.changes.subscribe(record.id) as waiter:
        while True:
            try:
                seen = await services.jobs.look(record.id, record.owner)
            except ProblemError:  # the job was deleted: end the stream
                return
            record = seen.record
            if record.revision != shown:
                shown = record.revision
                yield _event("progress", _job(seen, links))
                last_sent = time.monotonic()
            more = True
            while more:
                page = await services.results.page(record, position, EVENT_FRAMES, whole=False)
                if page.frames:
                    data = await asyncio.to_thread(_frames, record, page, position, members)
                    position += len(page.frames)
                    yield _event("frames", data, position)
                    last_sent = time.monotonic()
                more = page.more
            if is_complete(record):
                yield _event(record.state, _job(seen, links), position)
                return
            if time.monotonic() - last_sent > KEEP_ALIVE_S:
                yield ": still here\n\n"
                last_sent = time.monotonic()
            if not await waiter.wait(KEEP_ALIVE_S):
                return


def _job(seen: Seen, links: LinkMaker) -> str:
    return job_view(seen, links).model_dump_json()


def _frames(record: JobRecord, page: Page, position: int, members: bool) -> str:
    names = (record.members or ()) if members else ()
    frames = [frame_record(frame, record.labels or (), names, record.options.late_fields) for frame in page.frames]
    return json.dumps({"job_id": record.id, "from": position, "frames": frames}, separators=(",", ":"))


def _event(name: str, data: str, event_id: int | None = None) -> str:
    """One event.  data: JSON without line breaks."""
    identity = "" if event_id is None else f"id: {event_id}\n"
    return f"{identity}event: {name}\ndata: {data}\n\n"
