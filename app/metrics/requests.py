"""Metrics of this process: every front end counts its own requests; their sum is the service's."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.contract.release import release

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class RequestMetrics:
    """Counts requests of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("mien_requests_total", "Requests answered.", labels, registry=self.registry)
        self._seconds = Histogram(
            "mien_request_seconds",
            "Time to the end of the response.",
            ("method", "route"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._open = Gauge("mien_requests_open", "Open requests.", registry=self.registry)
        self._bytes = Counter("mien_request_body_bytes_total", "Bytes of bodies received.", registry=self.registry)
        built = Gauge("mien_build_info", "1, with the release of this front end.", ("version",), registry=self.registry)
        built.labels(release()).set(1)

    def begin(self) -> None:
        """A request begins."""
        self._open.inc()

    def received(self, size: int) -> None:
        """A piece of a body was received."""
        self._bytes.inc(size)

    def end(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request ended."""
        self._open.dec()
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


class MetricsMiddleware:
    """Counts every request by its route's pattern, so that ids do not become labels."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        began = time.perf_counter()
        self._metrics.begin()

        async def counted_receive() -> Message:
            message = await receive()
            self._metrics.received(len(message.get("body", b"")))
            return message

        async def counted_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, counted_receive, counted_send)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if route != "none" else "ANY"  # methods are the client's words
            self._metrics.end(method, route, status, time.perf_counter() - began)
