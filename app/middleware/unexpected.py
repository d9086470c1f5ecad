"""A mistake of ours is logged and answered inside what gives every answer its request id, CORS headers and log line.

Starlette's own place for it is outside all middleware.
"""

from __future__ import annotations

import structlog
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http import errors

log = structlog.get_logger(__name__)


class UnexpectedMiddleware:
    """Answers an exception that no handler took with a 500 problem."""

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
            if not began:  # else the server closes the connection, as the answer has no end
                await errors.problem_response(Request(scope), errors.unexpected())(scope, receive, send)
