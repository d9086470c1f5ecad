"""Rules of the tus protocol for every request to a resumable upload, https://tus.io/protocols/resumable-upload"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOADS = "/v1/uploads"
VERSION = "1.0.0"
OVERRIDE = "X-HTTP-Method-Override"  # from clients whose network allows only GET and POST


class TusMiddleware:
    """Applies the method override, and adds `Tus-Resumable` to every response, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].removeprefix(scope.get("root_path", "")).startswith(UPLOADS):
            await self.app(scope, receive, send)
            return
        method = Headers(scope=scope).get(OVERRIDE)
        if scope["method"] == "POST" and method in {"PATCH", "DELETE"}:
            scope["method"] = method

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("Tus-Resumable", VERSION)
            await send(message)

        await self.app(scope, receive, send_with_version)
