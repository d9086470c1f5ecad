"""HEAD for every GET route: the same response without its body (RFC 9110, 9.3.2)."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class _BegunError(Exception):
    """The response's headers are sent; its body is not needed."""


class HeadMiddleware:
    """Runs the GET route and stops it after the headers, also if the body is endless."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}

        async def send_head(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                await send({"type": "http.response.body", "body": b""})
                raise _BegunError

        try:
            await self.app(asked, receive, send_head)
        except _BegunError:
            pass
        finally:
            if "route" in asked:
                scope["route"] = asked["route"]  # for the metrics
