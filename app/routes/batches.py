"""Batches: jobs submitted with the same `batch`, which are counted, read and deleted together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from app.contract.exports import MEDIA_TYPES, export
from app.contract.exports.content import Content
from app.contract.jobs import ENDED, JobRecord, State
from app.contract.naming import BATCH
from app.http.errors import Conflict, NotFound
from app.http.openapi_examples import batch_formats, problems
from app.jobs import batches
from app.jobs.results import is_complete
from app.routes.dependencies import LinksDep, OwnerDep, ServicesDep
from app.routes.frames import WithMembers, pieces
from app.services import Services

router = APIRouter(prefix="/v1/batches", tags=["batches"])

BatchFormat = Literal["csv", "ndjson"]
Name = Annotated[str, Path(description="The `batch` that its jobs were submitted with.", pattern=BATCH)]


class BatchLinks(BaseModel):
    """The links of a batch."""

    self: str
    jobs: str
    frames: str


class Batch(BaseModel):
    """The jobs of a batch."""

    name: str
    jobs: int = Field(description="how many there are; those that were removed or have expired do not count")
    states: dict[State, int] = Field(description="how many of them are in each state")
    complete: bool = Field(description="all of them have ended")
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
    responses={**batch_formats(), **problems(401, 404, 409, 422, 429, 503)},
)
async def get_frames(
    name: Name,
    services: ServicesDep,
    owner: OwnerDep,
    format: Annotated[BatchFormat, Query(description="What the file is.")] = "csv",
    members: WithMembers = False,
) -> StreamingResponse:
    """One file with the frames so far, job after job, oldest first; every row begins with `job_id` and `name`."""
    found = await batches.records(services.redis, owner, name)
    if not found:
        raise _no_such_batch()
    started = [record for record in found if record.labels]
    if format == "csv" and len({_columns(record, members) for record in started}) > 1:
        raise Conflict("The jobs of this batch have different labels or members, which no table can hold: use ndjson.")
    headers = {
        "Cache-Control": "private, no-store",
        "Content-Disposition": f'inline; filename="{name}.{format}"',
        "Mien-Complete": "true" if all(map(is_complete, found)) else "false",
    }
    rows = _rows(services, started, format, members)
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


def _rows(services: Services, found: list[JobRecord], format: BatchFormat, members: bool) -> Iterator[bytes]:
    """The file in pieces.  Blocks."""
    header = True
    for record in found:
        labels, shown = _columns(record, members)
        lead = (("job_id", record.id), ("name", record.name or ""))
        content = replace(Content(labels, shown), lead=lead, header=header)
        yield from export(services.results.iterate(record), format, content)
        header = False


def _columns(record: JobRecord, members: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return record.labels or (), (record.members or ()) if members else ()


def _no_such_batch() -> NotFound:
    return NotFound("There is no batch of this name.")
