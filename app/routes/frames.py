"""Frame records of a job, a page at a time, also while it runs."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from app.contract.frames import FrameRecord, frame_record
from app.contract.jobs import JobRecord
from app.dependencies import LinksDep, RecordDep, ServicesDep
from app.links import LinkMaker, job_path
from app.openapi import problems
from app.results import Page, Results, is_complete

router = APIRouter(prefix="/v1/jobs", tags=["results"])

MAX_POSITION = 10**9  # far more frames than any job may have


class FramePage(BaseModel):
    """Some frames of a job, in order."""

    job_id: str
    labels: tuple[str, ...] | None = Field(description="the labels, in score order; null until a worker took the job")
    frames: tuple[FrameRecord, ...]
    next: str | None = Field(description="where the next page is; null only after the last frame of an ended job")
    complete: bool = Field(description="the job has ended, so no more frames will come than there are")


From = Annotated[int, Query(alias="from", ge=0, le=MAX_POSITION, description="Position among the sampled frames.")]
Limit = Annotated[int, Query(ge=1, le=5000, description="Most frames in a page.")]
WithMembers = Annotated[bool, Query(description="Show each member's own probabilities, too.")]


@router.get(
    "/{job_id}/frames",
    summary="Frame records",
    response_model=FramePage,
    responses=problems(401, 404, 410, 422, 429, 503),
)
async def get_frames(
    record: RecordDep,
    services: ServicesDep,
    links: LinksDep,
    start: From = 0,
    limit: Limit = 500,
    members: WithMembers = False,
) -> Response:
    """One record a sampled frame, in order; `faces` is empty where there is none."""
    page = await Results.of(services.redis, record).page(start, limit)
    body = await asyncio.to_thread(_page_json, record, page, links, start, limit, members)
    return Response(body, media_type="application/json")


def _page_json(record: JobRecord, page: Page, links: LinkMaker, start: int, limit: int, members: bool) -> bytes:
    shown = record.members or () if members else ()
    labels = record.labels or ()
    return json.dumps(
        {
            "job_id": record.id,
            "labels": record.labels,
            "frames": [frame_record(frame, labels, shown) for frame in page.frames],
            "next": _next(record, page, links, start, limit, members),
            "complete": is_complete(record),
        },
        separators=(",", ":"),
    ).encode()


def _next(record: JobRecord, page: Page, links: LinkMaker, start: int, limit: int, members: bool) -> str | None:
    if is_complete(record) and not page.more:
        return None
    query: dict[str, object] = {"from": start + len(page.frames), "limit": limit}
    if members:
        query["members"] = "true"
    return links.path(f"{job_path(record.id)}/frames?{urlencode(query)}")
