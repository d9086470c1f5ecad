"""Batches: jobs submitted with the same `batch`, which are counted, read and deleted together."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from app.contract.exports import MEDIA_TYPES, export_clips
from app.contract.exports.content import Content
from app.contract.jobs import ENDED, State
from app.contract.naming import BATCH
from app.http.errors import Conflict, NotFound
from app.http.openapi_examples import batch_formats, problems
from app.jobs import batches
from app.jobs.results import is_complete
from app.routes.dependencies import LinksDep, OwnerDep, ServicesDep
from app.routes.frames import WithMembers, check_written, content_of, pieces

router = APIRouter(prefix="/v1/batches", tags=["batches"])

BatchFormat = Literal["csv", "ndjson", "parquet"]
Name = Annotated[str, Path(description="The `batch` of its jobs.", pattern=BATCH)]


class BatchLinks(BaseModel):
    """The links of a batch."""

    self: str
    jobs: str
    frames: str


class Batch(BaseModel):
    """The jobs of a batch."""

    name: str
    jobs: int = Field(description="number of jobs, without removed and expired ones")
    states: dict[State, int] = Field(description="number of jobs in each state")
    complete: bool = Field(description="all jobs have ended")
    links: BatchLinks


@router.get("/{name}", summary="A batch", response_model=Batch, responses=problems(401, 404, 422, 429, 503))
async def get_batch(name: Name, services: ServicesDep, owner: OwnerDep, links: LinksDep) -> Batch:
    """Counts the batch's jobs by state."""
    found = await batches.states(services.redis, owner, name)
    if not found:
        raise _no_such_batch()
    here = links.url(f"/v1/batches/{name}")
    return Batch(
        name=name,
        jobs=len(found),
        states={state: found.count(state) for state in get_args(State)},
        complete=all(state in ENDED for state in found),
        links=BatchLinks(self=here, jobs=links.url(f"/v1/jobs?batch={name}"), frames=f"{here}/frames"),
    )


@router.get(
    "/{name}/frames",
    operation_id="getBatchFrames",
    summary="Frame records of all its jobs",
    response_class=StreamingResponse,
    responses={**batch_formats(), **problems(401, 404, 406, 409, 422, 429, 503)},
)
async def get_frames(
    name: Name,
    services: ServicesDep,
    owner: OwnerDep,
    format: Annotated[BatchFormat, Query(description="Format of the file.")] = "csv",
    members: WithMembers = False,
) -> StreamingResponse:
    """One file with the frames so far, job after job, oldest first; every row begins with `job_id` and `name`.

    Tables have the columns that any of the jobs requested.
    """
    check_written(format)
    found = await batches.records(services.redis, owner, name)
    if not found:
        raise _no_such_batch()
    started = [record for record in found if record.execution]
    contents = [replace(content_of(record, members), lead=_lead(record.id, record.name)) for record in started]
    if format != "ndjson":
        if len({(content.labels, content.members) for content in contents}) > 1:
            raise Conflict(
                "The jobs of this batch have different labels or members, which no table can hold: use ndjson."
            )
        contents = _with_the_same_columns(contents)
    headers = {
        "Cache-Control": "private, no-store",
        "Content-Disposition": f'inline; filename="{name}.{format}"',
        "Mien-Complete": "true" if all(map(is_complete, found)) else "false",
    }
    columns = replace(contents[0] if contents else Content((), lead=_lead("", "")), about={"batch": name})
    rows = export_clips(zip(map(services.results.iterate, started), contents, strict=True), format, columns)
    return StreamingResponse(pieces(rows), media_type=MEDIA_TYPES[format], headers=headers)


@router.delete(
    "/{name}",
    status_code=204,
    summary="Remove a batch",
    response_class=Response,
    responses=problems(401, 404, 422, 429, 503),
)
async def delete_batch(name: Name, services: ServicesDep, owner: OwnerDep) -> Response:
    """Removes the batch's jobs with their inputs and results; waiting and running ones are cancelled first."""
    found = await batches.records(services.redis, owner, name)
    if not found:
        raise _no_such_batch()
    for record in found:
        await services.jobs.delete(record)
    return Response(status_code=204)


def _lead(job_id: str, name: str | None) -> tuple[tuple[str, str], ...]:
    return (("job_id", job_id), ("name", name or ""))


def _with_the_same_columns(contents: list[Content]) -> list[Content]:
    """Those that any of them has; they are empty in the rows of the others."""
    landmarks = any(content.landmarks for content in contents)
    late = tuple(dict.fromkeys(field for content in contents for field in content.late))
    named = any(content.names is not None for content in contents)
    return [
        replace(content, landmarks=landmarks, late=late, names=(content.names or {}) if named else None)
        for content in contents
    ]


def _no_such_batch() -> NotFound:
    return NotFound("There is no batch of this name.")
