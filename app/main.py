"""The front end as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache, partial

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from app.contract.release import release
from app.http import errors
from app.http.openapi_document import document, operation_name
from app.metrics.requests import MetricsMiddleware, RequestMetrics
from app.middleware.deprecation import DeprecationMiddleware
from app.middleware.drain import DrainMiddleware
from app.middleware.forwarded import ForwardedMiddleware
from app.middleware.head import HeadMiddleware
from app.middleware.request_id import RequestIdMiddleware
from app.middleware.tus import TusMiddleware
from app.middleware.unexpected import UnexpectedMiddleware
from app.routes import batches, digests, events, frames, health, jobs, metrics, models, pages, renditions, uploads
from app.services import open_services
from app.settings import Settings

# Response headers that pages of other origins may read, beyond CORS' safelist.
EXPOSED_HEADERS = [
    "Deprecation",
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "Tus-Checksum-Algorithm",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Resumable",
    "Tus-Version",
    "Upload-Expires",
    "Upload-Length",
    "Upload-Offset",
    "Mien-Complete",
    "Preference-Applied",
    "Retry-After",
    "Sunset",
    "X-Request-ID",
]


def create_app(settings: Settings) -> FastAPI:
    """The application; it opens its connections at startup, and Redis need not be reachable."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings) as services:
            app.state.services = services
            yield

    app = FastAPI(
        title="Mien",
        version=release(),
        summary="Labels facial expressions in video.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_name,
    )
    errors.install(app)
    for module in (jobs, batches, uploads, frames, digests, events, renditions, models, health, metrics, pages):
        app.include_router(module.router)
    app.mount("/static", pages.PageFiles(directory=pages.WEB), name="static")
    app.openapi = cache(partial(document, app))  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    app.state.request_metrics = RequestMetrics()
    # Each middleware wraps the ones above.
    app.add_middleware(HeadMiddleware)
    app.add_middleware(TusMiddleware)
    app.add_middleware(DeprecationMiddleware)
    app.add_middleware(UnexpectedMiddleware)
    app.add_middleware(DrainMiddleware)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
            max_age=600,
        )
    app.add_middleware(MetricsMiddleware, metrics=app.state.request_metrics)
    app.add_middleware(RequestIdMiddleware)
    app.add_middleware(ForwardedMiddleware, trusted=settings.trusted_proxies)
    return app
