"""Prometheus metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import generate_latest

from app.http.openapi_examples import problems
from app.metrics.fleet import fleet
from app.routes.dependencies import ServicesDep

router = APIRouter(tags=["health"])

TEXT = "text/plain; version=0.0.4; charset=utf-8"


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus's text format."},
        **problems(503),
    },
)
async def get_metrics(request: Request, services: ServicesDep) -> Response:
    """Requests of this front end; queues, jobs, frames, batches, stages, workers and storage of the whole service."""
    process = generate_latest(request.app.state.request_metrics.registry)
    return Response(process + await fleet(services), media_type=TEXT)
