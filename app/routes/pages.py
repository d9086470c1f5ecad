"""Pages for people: the API's own documentation, made of files that ship with it."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, RedirectResponse

router = APIRouter(tags=["pages"])

WEB = Path(__file__).parent.parent / "web"
# Nothing comes from elsewhere, and no other page may frame this one.
SECURITY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@router.get("/docs", include_in_schema=False)
async def docs() -> FileResponse:
    """The documentation, rendered from /openapi.json by the page itself."""
    return FileResponse(WEB / "docs.html", headers=SECURITY)


@router.get("/", include_in_schema=False)
async def home() -> RedirectResponse:
    """There is no page yet but the documentation."""
    return RedirectResponse("docs")
