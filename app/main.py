"""The front end as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI

from app import errors
from app.middleware.drain import DrainMiddleware
from app.middleware.request_id import RequestIdMiddleware
from app.routes import digests, events, frames, health, jobs, models
from app.services import open_services
from app.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """The application; its connections open when it starts, and nothing needs to be up yet."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings) as services:
            app.state.services = services
            yield

    app = FastAPI(
        title="Mien",
        version=_version(),
        summary="Labels facial expressions in video.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    errors.install(app)
    for module in (jobs, frames, digests, events, models, health):
        app.include_router(module.router)
    app.add_middleware(DrainMiddleware)
    app.add_middleware(RequestIdMiddleware)
    return app


def _version() -> str:
    try:
        return version("mien")
    except PackageNotFoundError:
        return "0"
