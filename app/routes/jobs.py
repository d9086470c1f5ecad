"""Jobs: submit, list, read, cancel, delete."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, Field

from app.contract import keys
from app.contract.jobs import Job, State
from app.contract.naming import BATCH, METADATA_PREFIX, NamingPatch
from app.http import caching
from app.http.errors import Conflict
from app.http.links import LinkMaker, job_path
from app.http.openapi_examples import metadata_filter, not_modified, problems, submission_docs, submitted
from app.http.prefer import MAX_WAIT_S, wait_seconds
from app.jobs.listing import CURSOR, Filter, Place, list_jobs
from app.jobs.store import Seen
from app.routes.dependencies import IfNoneMatch, LinksDep, OwnerDep, RecordDep, SeenDep, ServicesDep
from app.routes.job_view import job_view
from app.routes.long_poll import has_ended, wait_until
from app.submission import idempotency
from app.submission.submit import submit

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

RETRY_AFTER_S = 1  # delay before the first poll


class JobList(BaseModel):
    """Some of the caller's jobs, newest first."""

    jobs: tuple[Job, ...]
    next: str | None = Field(description="address of the next page; null after the oldest job")


Wait = Annotated[
    int, Query(ge=0, le=MAX_WAIT_S, description="Wait at most this many seconds for a change of state or progress.")
]
Prefer = Annotated[
    str | None,
    Header(alias="Prefer", description="`wait=N`: 200 with the finished job if it ends within N seconds."),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=idempotency.HEADER,
        description="The same key and body answer the same job.",
        json_schema_extra={"pattern": idempotency.SENSIBLE},
    ),
]
ListedState = Annotated[State | None, Query(description="Only jobs in this state.")]
Words = Annotated[
    str,
    Query(
        alias="q",
        max_length=200,
        description="Only jobs with all of these words in name, id, metadata or people's names.",
    ),
]
ListedLabel = Annotated[
    str, Query(max_length=64, description="Only ended jobs in which this label ranks first on some face.")
]
LeastShare = Annotated[float, Query(ge=0, le=1, description="With `label`: on at least this share of all faces.")]


def _no_number(value: object) -> object:
    """Reject digits, which Pydantic would read as seconds since the epoch, unlike the schema.  Raises: ValueError."""
    if isinstance(value, str) and "-" not in value.strip()[1:]:
        raise ValueError("should be a date or time such as 2026-11-24 or 2026-11-24T09:30:00Z")
    return value


Since = Annotated[
    datetime | None,
    BeforeValidator(_no_number),
    Query(description="Only jobs made at this time or later, such as 2026-11-24."),
]
ListedBatch = Annotated[str | None, Query(pattern=BATCH, description="Only jobs of this batch.")]
ListLimit = Annotated[int, Query(ge=1, le=1000, description="Most jobs in a page.")]
# Their own checks give clearer errors than a pattern.
Cursor = Annotated[str | None, Query(description="From `next`.", json_schema_extra={"pattern": CURSOR})]


@router.post(
    "",
    status_code=202,
    summary="Submit a video or frames",
    response_model=Job,
    responses={**submitted(), **problems(400, 401, 408, 409, 413, 415, 422, 429, 503, 507)},
    openapi_extra=submission_docs(),
)
async def submit_job(
    request: Request,
    services: ServicesDep,
    owner: OwnerDep,
    links: LinksDep,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Returns the job at once; its frames can be read while it runs."""
    submission = await submit(request, services, owner)
    headers = {"Location": links.path(job_path(submission.record.id))}
    if submission.replayed:
        headers["Idempotency-Replayed"] = "true"
    wait_s = wait_seconds(prefer)
    if wait_s:
        headers["Preference-Applied"] = f"wait={wait_s}"
    seen = await wait_until(services, submission.record, wait_s, has_ended)
    ended_in_time = bool(wait_s) and has_ended(seen.record)
    if not ended_in_time:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return Response(_body(seen, links), 200 if ended_in_time else 202, headers, "application/json")


@router.get(
    "",
    operation_id="listJobs",
    summary="The caller's jobs",
    response_model=JobList,
    responses=problems(401, 422, 429, 503),
    openapi_extra={"parameters": [metadata_filter()]},
)
async def get_jobs(
    request: Request,
    services: ServicesDep,
    owner: OwnerDep,
    links: LinksDep,
    state: ListedState = None,
    words: Words = "",
    label: ListedLabel = "",
    label_share: LeastShare = 0.0,
    since: Since = None,
    batch: ListedBatch = None,
    limit: ListLimit = 100,
    cursor: Cursor = None,
) -> JobList:
    """Newest first.  A page may be short or empty if a filter skips thousands of jobs: follow `next`."""
    after = None if cursor is None else Place.of_cursor(cursor)
    index = keys.jobs(owner) if batch is None else keys.batch(owner, batch)
    asked = request.query_params
    metadata = {k.removeprefix(METADATA_PREFIX): v for k, v in asked.items() if k.startswith(METADATA_PREFIX)}
    wanted = Filter(
        state, tuple(words.split()), label, label_share, since and since.replace(tzinfo=since.tzinfo or UTC), metadata
    )
    records, last = await list_jobs(services.redis, index, wanted, limit, after)
    positions = await services.queueing.positions({r.queue for r in records if r.state == "queued"})
    query = {**asked, "limit": str(limit), "cursor": last.cursor() if last else ""}
    return JobList(
        jobs=tuple(job_view(Seen(record, positions.get(record.id)), links) for record in records),
        next=links.path(f"/v1/jobs?{urlencode(query)}") if last else None,
    )


@router.get(
    "/{job_id}",
    summary="A job",
    response_model=Job,
    responses={**not_modified(), **problems(401, 404, 410, 422, 429, 503)},
)
async def get_job(
    request: Request,
    seen: SeenDep,
    services: ServicesDep,
    links: LinksDep,
    wait: Wait = 0,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """State, progress, and properties of the input.  With `wait`, returns when state or progress changes."""
    body = _body(seen, links)
    # A client with an older version gets the newest one at once.
    if wait and (if_none_match is None or caching.matches(request, caching.etag(body))):
        shown = seen.record.revision
        seen = await wait_until(services, seen.record, wait, lambda now: has_ended(now) or now.revision != shown)
        body = _body(seen, links)
    return caching.answer(request, body)


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    summary="Cancel a job",
    response_model=Job,
    responses=problems(401, 404, 409, 410, 422, 429, 503),
)
async def cancel_job(record: RecordDep, services: ServicesDep, links: LinksDep) -> Response:
    """A queued job never starts; a running one stops within a batch, and its results so far stay readable."""
    state = await services.jobs.cancel(record)
    if state in {"succeeded", "failed"}:
        raise Conflict(f"The job has already ended: {state}.")
    seen = await services.jobs.look(record.id, record.owner)
    return Response(_body(seen, links), 202, media_type="application/json")


@router.patch(
    "/{job_id}",
    summary="Rename a job",
    response_model=Job,
    responses=problems(400, 401, 404, 410, 422, 429, 503),
)
async def patch_job(record: RecordDep, patch: NamingPatch, services: ServicesDep, links: LinksDep) -> Response:
    """Changes name, metadata and persons at any time: absent fields stay, null removes (RFC 7396)."""
    await services.jobs.rename(record, patch)
    seen = await services.jobs.look(record.id, record.owner)
    return Response(_body(seen, links), media_type="application/json")


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Remove a job",
    response_class=Response,
    responses=problems(401, 404, 410, 422, 429, 503),
)
async def delete_job(record: RecordDep, services: ServicesDep) -> Response:
    """Removes input, results and record at once; a waiting or running job is cancelled first."""
    await services.jobs.delete(record)
    return Response(status_code=204)


def _body(seen: Seen, links: LinkMaker) -> bytes:
    return job_view(seen, links).model_dump_json().encode()
