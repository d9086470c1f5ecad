"""Drain request bodies, so that an early error reaches clients that send their whole body before they read.

If a server stops reading, common clients (browsers, curl, Python's) see a reset connection instead of the response.  So
before an error response, up to `DRAIN_BYTES` of the body are read and discarded within `DRAIN_S`.  If the body is
longer or slower, the response closes the connection.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAIN_BYTES = 64 * 2**20
DRAIN_S = 20
_ERRORS = 400


class DrainMiddleware:
    """Reads the rest of the body before an error response starts."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        # A client that waits for `100 Continue` sends no body before a response.
        began = "expect" not in headers

        async def counted() -> Message:
            nonlocal unread, began
            began = True
            message = await receive()
            unread = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def drain() -> None:
            dropped = 0
            while unread and dropped < DRAIN_BYTES:
                dropped += len((await counted()).get("body", b""))

        async def send_after(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= _ERRORS and unread and began:
                answer = MutableHeaders(scope=message)
                if "connection" not in answer:  # else the response already closes the connection
                    with suppress(TimeoutError):
                        await asyncio.wait_for(drain(), DRAIN_S)
                if unread:
                    answer["connection"] = "close"
            await send(message)

        await self.app(scope, counted, send_after)
