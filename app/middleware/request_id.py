"""A request id for every request, the client's if it is well-formed, else a new one; and the access log."""

from __future__ import annotations

import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-ID"
_SENSIBLE = re.compile(r"[A-Za-z0-9._\-]{1,64}")
_QUIET = frozenset({"/health/live", "/health/ready", "/metrics"})  # polled every few seconds

log = structlog.get_logger("app.access")


class RequestIdMiddleware:
    """Adds `request_id` to the scope, the response's header and every log line of the request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _SENSIBLE.fullmatch(given) else uuid.uuid4().hex
        scope["request_id"] = request_id
        status = 0
        began = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                # Headers and query are not logged, since they may contain keys.
                write = log.debug if scope["path"] in _QUIET else log.info
                job_id = scope.get("path_params", {}).get("job_id")
                write(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    seconds=round(time.perf_counter() - began, 4),
                    **({"job_id": job_id} if job_id else {}),
                )
