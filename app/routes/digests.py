"""Digests of a job's results: summary and timeline."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.contract.naming import names_by_track
from app.http import caching
from app.http.openapi_examples import not_modified, problems
from app.jobs.results import is_complete
from app.reports.summary import Summary, summarise
from app.reports.timeline import draw
from app.routes.dependencies import IfNoneMatch, RecordDep, ServicesDep, SmoothingDep

router = APIRouter(prefix="/v1/jobs", tags=["results"])

SVG = "image/svg+xml"


@router.get(
    "/{job_id}/summary",
    summary="Results in short",
    response_model=Summary,
    responses={**not_modified(), **problems(401, 404, 410, 422, 429, 503)},
)
async def get_summary(
    request: Request,
    record: RecordDep,
    services: ServicesDep,
    smoothing: SmoothingDep,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Shares, mean scores and segments of each label, per track and for the whole video, from the frames so far."""

    tag = caching.etag_of(request, record, f"summary {smoothing}")
    if caching.matches(request, tag):
        return caching.unchanged(tag)

    def work() -> bytes:
        frames = services.results.iterate(record)
        complete, labels = is_complete(record), record.labels or ()
        whole = services.results.whole(record) if complete and record.options.people else None
        summary = summarise(record.id, record.state, complete, labels, frames, smoothing, record.left_out, whole)
        names = names_by_track(record.persons)
        tracks = tuple(t.model_copy(update={"person_name": names.get(t.track_id)}) for t in summary.tracks)
        called = {"name": record.name, "metadata": record.metadata, "tracks": tracks}
        return summary.model_copy(update=called).model_dump_json().encode()

    body = await services.digests.get(tag, work, keep=is_complete(record))
    return caching.answer(request, body, tag=tag)


@router.get(
    "/{job_id}/timeline.svg",
    summary="Picture of the scores over time",
    response_class=Response,
    responses={
        200: {"content": {SVG: {"schema": {"type": "string"}}}, "description": "A lane a track."},
        **not_modified(),
        **problems(401, 404, 410, 422, 429, 503),
    },
)
async def get_timeline(
    request: Request,
    record: RecordDep,
    services: ServicesDep,
    smoothing: SmoothingDep,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """A lane per track; the heights of its bands are the labels' scores."""

    tag = caching.etag_of(request, record, f"timeline {smoothing}")
    if caching.matches(request, tag):
        return caching.unchanged(tag)

    def work() -> bytes:
        start_s, end_s = services.results.times(record)
        return draw(services.results.iterate(record), record.labels or (), start_s, end_s, smoothing).encode()

    body = await services.digests.get(tag, work, keep=is_complete(record))
    return caching.answer(request, body, SVG, tag)
