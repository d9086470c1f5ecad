"""Jobs: submit, read, delete."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from app.contract.jobs import Job
from app.dependencies import LinksDep, OwnerDep, RecordDep, ServicesDep
from app.links import job_path
from app.openapi import problems, submission_docs
from app.submission.submit import submit
from app.views import job_view

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

RETRY_AFTER_S = "1"


@router.post(
    "",
    status_code=202,
    summary="Submit a video or frames",
    response_model=Job,
    responses=problems(400, 401, 413, 415, 422, 429, 503, 507),
    openapi_extra=submission_docs(),
)
async def submit_job(
    request: Request, response: Response, services: ServicesDep, owner: OwnerDep, links: LinksDep
) -> Job:
    """Answers at once with the job; its frames can be read while it runs."""
    record = await submit(request, services, owner)
    response.headers["Location"] = links.path(job_path(record.id))
    response.headers["Retry-After"] = RETRY_AFTER_S
    return job_view(record, links, await services.queueing.position(record))


@router.get("/{job_id}", summary="A job", response_model=Job, responses=problems(401, 404, 410, 422, 429, 503))
async def get_job(record: RecordDep, services: ServicesDep, links: LinksDep) -> Any:
    """State, progress, and what is known of the input."""
    return job_view(record, links, await services.queueing.position(record))


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Remove a job",
    response_class=Response,
    responses=problems(401, 404, 410, 422, 429, 503),
)
async def delete_job(record: RecordDep, services: ServicesDep) -> Response:
    """Removes input, results and record at once; a job that runs is cancelled first."""
    await services.jobs.delete(record)
    return Response(status_code=204)
