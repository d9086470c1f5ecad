"""Health checks: liveness of the process, and readiness of the service."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from app.contract.workers import WorkerInfo
from app.http.errors import ResultsFull
from app.jobs.admission import check_room
from app.routes.dependencies import ServicesDep
from app.services import Services

router = APIRouter(prefix="/health", tags=["health"])

FULL_SHARE = 0.05  # free share of a store below which it is nearly full, as with less than the largest upload
PROBE_S = 3  # timeout of each probe


class Live(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """The parts that the service needs, and their state."""

    status: Literal["ready", "unavailable"]
    redis: bool = Field(description="Redis responds")
    uploads: bool = Field(description="the upload store is writable")
    missing: tuple[str, ...] = Field(description="what is missing, as text")
    workers: tuple[WorkerInfo, ...] = Field(description="live workers with their state, bundle, device and detector")


@router.get("/live", operation_id="getLiveness", summary="Is the process alive")
async def live() -> Live:
    """Always 200 while the process answers."""
    return Live()


@router.get(
    "/ready",
    operation_id="getReadiness",
    summary="Can jobs be done",
    responses={503: {"model": Ready, "description": "What is missing."}},
)
async def ready(services: ServicesDep, response: Response) -> Ready:
    """200 if Redis responds, the upload store is writable, both have room, and a live worker takes jobs."""
    workers, uploads, space = await asyncio.gather(
        _workers(services), services.writable.ask(PROBE_S), services.space.ask(PROBE_S)
    )
    missing = []
    if workers is None:
        missing.append("redis: it does not respond")
    elif not any(worker.state in {"ready", "busy"} for worker in workers):
        states = ", ".join(f"{w.name} is {w.state}" + (f" ({w.detail})" if w.detail else "") for w in workers)
        missing.append("worker: none is ready" + (f"; {states}" if states else ""))
    if workers is not None and not await _redis_has_room(services):
        missing.append("redis: it nears its memory limit, and takes no new jobs")
    if not uploads:
        missing.append("uploads: the store cannot be written")
    elif space is not None and space.free < min(services.settings.max_upload_bytes, FULL_SHARE * space.total):
        missing.append("uploads: the store is nearly full")
    if missing:
        response.status_code = 503
    return Ready(
        status="unavailable" if missing else "ready",
        redis=workers is not None,
        uploads=bool(uploads),
        missing=tuple(missing),
        workers=tuple(workers or ()),
    )


async def _workers(services: Services) -> list[WorkerInfo] | None:
    try:
        return await asyncio.wait_for(services.registry.live_workers(), PROBE_S)
    except (RedisError, TimeoutError):
        return None


async def _redis_has_room(services: Services) -> bool:
    try:
        await asyncio.wait_for(check_room(services.redis), PROBE_S)
    except ResultsFull:
        return False
    except (RedisError, TimeoutError):
        return True  # reported as unreachable instead
    return True
