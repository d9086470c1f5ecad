"""Frame records of a job, also while it runs: pages of JSON, and streams of the text formats."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from app.contract.exports import MEDIA_TYPES, ExportFormat, MissingLibraryError, check, export, suffix
from app.contract.exports.content import Content
from app.contract.exports.text import named_record
from app.contract.frames import FrameRecord
from app.contract.jobs import JobRecord
from app.contract.naming import names_by_track
from app.http import caching
from app.http.errors import NotAcceptable
from app.http.links import LinkMaker, job_path
from app.http.negotiation import FrameFormat, accepted
from app.http.openapi_examples import frame_formats, not_modified, problems
from app.jobs.results import Page, is_complete
from app.reports import hume
from app.routes.dependencies import IfNoneMatch, LinksDep, RecordDep, ServicesDep, SmoothingDep
from app.services import Services

router = APIRouter(prefix="/v1/jobs", tags=["results"])

MAX_POSITION = 10**9  # more frames than a job may have
PAGE_FRAMES = 500
MAX_PAGE_FRAMES = 5000
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,5}$")  # kept of a job's name
PIECE_BYTES = 2**16  # size of a piece of a stream


class FramePage(BaseModel):
    """Some frames of a job, in order."""

    job_id: str
    name: str | None = Field(description="of the job")
    metadata: dict[str, str] = Field(description="of the job")
    labels: tuple[str, ...] | None = Field(description="in score order; null until a worker has taken the job")
    frames: tuple[FrameRecord, ...]
    next: str | None = Field(description="address of the next page; null only after the last frame of an ended job")
    complete: bool = Field(description="the job has ended: there will be no further frames")


From = Annotated[int, Query(alias="from", ge=0, le=MAX_POSITION, description="Position among the sampled frames.")]
Limit = Annotated[
    int | None,
    Query(ge=1, le=MAX_PAGE_FRAMES, description=f"Most frames in a page; {PAGE_FRAMES} if absent. Streams have none."),
]
WithMembers = Annotated[bool, Query(description="Include each member's probabilities.")]
Format = Annotated[
    FrameFormat | None,
    Query(description="Instead of `Accept`. The text formats stream all existing frames from `from` on."),
]
# OpenAPI describes `Accept` by the media types of the answers, not as a parameter.
Accept = Annotated[str | None, Header(include_in_schema=False)]


@router.get(
    "/{job_id}/frames",
    summary="Frame records",
    response_model=FramePage | list[hume.HumeSource],
    responses={**frame_formats(), **not_modified(), **problems(401, 404, 406, 410, 422, 429, 503)},
)
async def get_frames(
    request: Request,
    record: RecordDep,
    services: ServicesDep,
    links: LinksDep,
    smoothing: SmoothingDep,
    start: From = 0,
    limit: Limit = None,
    members: WithMembers = False,
    format: Format = None,
    accept: Accept = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """One record per sampled frame, in order; `faces` is empty if there is none."""
    wanted = format or accepted(accept)
    content = replace(content_of(record, members), smoothing=smoothing, about=_about(record))
    if wanted == "json":
        size = limit or PAGE_FRAMES
        page = await services.results.page(record, start, size)
        next_page = _next(record, page, links, start, size, {"members": "true"} if members else {})
        body = await asyncio.to_thread(_page_json, record, page, next_page, content)
        return caching.answer(request, body)
    if wanted == "hume":
        size = limit or MAX_PAGE_FRAMES
        page = await services.results.page(record, start, size)
        body = await asyncio.to_thread(_hume_json, record, page)
        answer = caching.answer(request, body)
        next_page = _next(record, page, links, start, size, {"format": "hume"})
        if next_page:
            answer.headers["Link"] = f'<{next_page}>; rel="next"'
        return answer
    check_written(wanted)
    return _stream(services, record, wanted, start, content)


def content_of(record: JobRecord, members: bool) -> Content:
    """What a job's files hold.  members: each member's own scores, too."""
    options = record.options
    return Content(
        record.labels or (),
        (record.members or ()) if members else (),
        landmarks=options.landmarks,
        late=options.late_fields,
        names=names_by_track(record.persons) or None,
    )


def check_written(format: ExportFormat) -> None:
    """Raises: NotAcceptable if this server lacks the format's library."""
    try:
        check(format)
    except MissingLibraryError as error:
        raise NotAcceptable(f"This server cannot write {format}: {error}.") from None


def _about(record: JobRecord) -> dict[str, str]:
    """Job and model, for formats with a place for them."""
    return {
        "job_id": record.id,
        "name": record.name or "",
        "metadata": json.dumps(record.metadata, ensure_ascii=False),
        "created_at": record.created_at.isoformat(),
        "model": record.model.name,
        "model_version": record.model.version or "",
        "detector": record.detector or "",
        "options": record.options.model_dump_json(),
    }


def _stream(
    services: Services, record: JobRecord, format: ExportFormat, start: int, content: Content
) -> StreamingResponse:
    """All frames so far, row by row.  The header `Mien-Complete` is true if the job had ended at the start."""
    frames = services.results.iterate(record, start)
    data = export(frames, format, content)
    headers = {
        "Cache-Control": "private, no-store",
        "Content-Disposition": disposition(record, suffix(format)),
        "Mien-Complete": "true" if is_complete(record) else "false",
        "Vary": "Accept",
    }
    return StreamingResponse(pieces(data), media_type=MEDIA_TYPES[format], headers=headers)


def disposition(record: JobRecord, suffix: str) -> str:
    """`Content-Disposition` of a job's file, named after the job's name, or its id (RFC 6266)."""
    plain = f'inline; filename="{record.id}.{suffix}"'
    stem = _EXTENSION.sub("", record.name or "").strip(". ")
    return f"{plain}; filename*=UTF-8''{quote(f'{stem}.{suffix}', safe='')}" if stem else plain


def pieces(rows: Iterable[bytes]) -> Iterator[bytes]:
    """Join rows to pieces of about `PIECE_BYTES`.  Blocks: runs in a thread."""
    held: list[bytes] = []
    size = 0
    for row in rows:
        held.append(row)
        size += len(row)
        if size >= PIECE_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _page_json(record: JobRecord, page: Page, next_page: str | None, content: Content) -> bytes:
    return _json(
        {
            "job_id": record.id,
            "name": record.name,
            "metadata": record.metadata,
            "labels": record.labels,
            "frames": [named_record(frame, content) for frame in page.frames],
            "next": next_page,
            "complete": is_complete(record),
        }
    )


def _hume_json(record: JobRecord, page: Page) -> bytes:
    return _json(hume.predictions(record, page.frames))


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _next(record: JobRecord, page: Page, links: LinkMaker, start: int, limit: int, more: dict[str, str]) -> str | None:
    if is_complete(record) and not page.more:
        return None
    query = {"from": start + len(page.frames), "limit": limit, **more}
    return links.path(f"{job_path(record.id)}/frames?{urlencode(query)}")
