"""Dependencies of routes: services, the caller, and the job of the path."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request

from app.contract.jobs import JobRecord
from app.contract.segments import Smoothing
from app.http.auth import owner_of
from app.http.links import LinkMaker
from app.jobs.store import Seen
from app.services import Services

# All are coroutines: FastAPI would run plain functions in threads, whose overhead exceeds their work.


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]


async def _owner(request: Request, services: ServicesDep) -> str:
    """The caller, after its rate limit; without API keys each address has its own limit."""
    owner = owner_of(request, services.settings, services.keyring)
    await services.limiter.check(owner or (request.client.host if request.client else ""))
    return owner


OwnerDep = Annotated[str, Depends(_owner)]
JobId = Annotated[str, Path(description="The job's id.", examples=["7c9e6679f7424de2944be07fc1f90ae7"])]


async def _seen(job_id: JobId, services: ServicesDep, owner: OwnerDep) -> Seen:
    return await services.jobs.look(job_id, owner)


SeenDep = Annotated[Seen, Depends(_seen)]


async def _record(seen: SeenDep) -> JobRecord:
    return seen.record


RecordDep = Annotated[JobRecord, Depends(_record)]


async def _links(request: Request, services: ServicesDep) -> LinkMaker:
    return LinkMaker(services.settings, request)


LinksDep = Annotated[LinkMaker, Depends(_links)]

IfNoneMatch = Annotated[
    str | None,
    Header(alias="If-None-Match", description="ETag of your version; 304 if it is the newest."),
]

SmoothS = Annotated[
    float | None,
    Query(ge=0, le=10, allow_inf_nan=False, description="Overrides the job's option: smooth over this many seconds."),
]
MinSegmentS = Annotated[
    float | None,
    Query(ge=0, le=60, allow_inf_nan=False, description="Overrides the job's option: shortest segment, seconds."),
]
UnsureBelow = Annotated[
    float | None,
    Query(ge=0, le=1, allow_inf_nan=False, description="Overrides the job's option: mark segments below this score."),
]


async def _smoothing(
    record: RecordDep,
    smooth_s: SmoothS = None,
    min_segment_s: MinSegmentS = None,
    unsure_below: UnsureBelow = None,
) -> Smoothing:
    return Smoothing.chosen(record.options, smooth_s, min_segment_s, unsure_below)


SmoothingDep = Annotated[Smoothing, Depends(_smoothing)]
