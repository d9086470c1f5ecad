"""Web pages: the page for uploads and results, and the API's documentation.

Both are static files of the front end; `/page/...` returns their settings.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.types import Scope

from app.contract.colours import colours
from app.contract.media import SUPPORTED
from app.contract.options import JobOptions
from app.routes.dependencies import ServicesDep

router = APIRouter(tags=["pages"])

WEB = Path(__file__).parent.parent / "web"
MAX_LABELS = 64
# No foreign content, no inline scripts, no markup from text (Trusted Types), no framing by other pages.
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
    "img-src 'self' blob:; media-src 'self' blob:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Files of two releases must not mix in one page, so they are revalidated, which costs a 304.
    "Cache-Control": "no-cache",
}


class PageSettings(BaseModel):
    """Settings of this service for the page."""

    version: str
    keys_needed: bool = Field(description="an API key is required")
    max_upload_bytes: int
    result_ttl_s: int
    inputs: str = Field(description="supported files, as text")
    options: dict[str, Any] = Field(description="default values of options")


class PageMember(BaseModel):
    """A member's name and description for display."""

    name: str
    title: str
    short: str
    note: str


Labels = Annotated[list[str], Query(alias="label", max_length=MAX_LABELS, description="In score order.")]


class PageFiles(StaticFiles):
    """The pages' static files, with the pages' security headers."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """As in the base class."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        _secure(response)
        return response


def _secure(response: Response, headers: Mapping[str, str] = SECURITY) -> None:
    for name, value in headers.items():
        response.headers[name] = value


@router.get("/", include_in_schema=False)
async def home() -> FileResponse:
    """The page for uploads and results."""
    return FileResponse(WEB / "index.html", headers=SECURITY)


@router.get("/docs", include_in_schema=False)
async def docs() -> FileResponse:
    """The documentation, rendered from /openapi.json by the page itself."""
    return FileResponse(WEB / "docs.html", headers=SECURITY)


@router.get("/page/settings", include_in_schema=False)
async def page_settings(request: Request, services: ServicesDep) -> PageSettings:
    """Public, since it reports whether a key is required."""
    settings = services.settings
    return PageSettings(
        version=request.app.version,
        keys_needed=settings.keys_needed,
        max_upload_bytes=settings.max_upload_bytes,
        result_ttl_s=settings.result_ttl_s,
        inputs=SUPPORTED,
        options=JobOptions().model_dump(mode="json"),
    )


@router.get("/page/colours", include_in_schema=False)
async def page_colours(labels: Labels) -> dict[str, str]:
    """The labels' colours, `#RRGGBB`, as in the timeline and the annotated video."""
    return colours(labels)


@router.get("/page/members", include_in_schema=False)
async def page_members(services: ServicesDep) -> list[PageMember]:
    """The members of every bundle ever served here, in the bundles' order; public."""
    found: dict[str, PageMember] = {}
    for model in await services.registry.models():
        for member in model.members:
            title = member.title or member.name
            shown = PageMember(name=member.name, title=title, short=member.short or title, note=member.note)
            found.setdefault(member.name, shown)
    return list(found.values())
