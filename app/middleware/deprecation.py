"""Adds deprecation headers to responses."""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi.routing import APIRoute
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http import deprecations
from app.http.openapi_document import operation_name


class DeprecationMiddleware:
    """Adds `Deprecation`, `Sunset` and `Link` for deprecated operations."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not deprecations.DEPRECATED:
            await self.app(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                operation = operation_name(route) if isinstance(route, APIRoute) else ""
                names = frozenset(name for name, _ in parse_qsl(scope["query_string"].decode("latin-1"), True))
                if (found := deprecations.of_request(operation, names)) is not None:
                    headers = MutableHeaders(scope=message)
                    for name, value in found.headers().items():
                        headers.append(name, value)
            await send(message)

        await self.app(scope, receive, send_on)
