"""Unhandled exceptions: logged and answered with 500 inside the middleware that adds request id and CORS headers.

Starlette's own handler is outside all middleware.
"""

from __future__ import annotations

import structlog
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http import errors

log = structlog.get_logger(__name__)


class UnexpectedMiddleware:
    """Turns an unhandled exception into a 500 problem response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = False

        async def watched(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            log.exception("request_broke", method=scope["method"], path=scope["path"])
            if not began:  # else the server closes the connection, since the response is incomplete
                await errors.problem_response(Request(scope), errors.unexpected())(scope, receive, send)
