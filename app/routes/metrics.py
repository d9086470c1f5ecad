"""Prometheus metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.http.openapi_examples import problems
from app.metrics import render
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
    """Requests, queues, jobs, frames, batches, stages and workers."""
    return Response(await render(services, request.app.state.request_metrics), media_type=TEXT)
