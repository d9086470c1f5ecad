"""Prometheus metrics: this process's requests, and what Redis tells of queues, jobs and workers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.contract import keys
from app.contract import metrics as counted
from app.contract.jobs import ENDED
from app.contract.workers import WorkerInfo
from app.services import Services

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_STAGE = counted.stage_seconds("")


class RequestMetrics:
    """Counts requests of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("mien_requests_total", "Requests answered.", labels, registry=self.registry)
        self._seconds = Histogram(
            "mien_request_seconds",
            "Time to the end of the answer.",
            ("method", "route"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._open = Gauge("mien_requests_open", "Requests under way.", registry=self.registry)
        self._bytes = Counter("mien_request_body_bytes_total", "Bytes of bodies received.", registry=self.registry)

    def begin(self) -> None:
        """A request begins."""
        self._open.inc()

    def received(self, size: int) -> None:
        """A piece of a body came."""
        self._bytes.inc(size)

    def end(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request ended."""
        self._open.dec()
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


class MetricsMiddleware:
    """Counts every request under its route's pattern, so that ids do not become labels."""

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


async def render(services: Services, requests: RequestMetrics) -> bytes:
    """The text that Prometheus reads."""
    workers = await services.registry.live_workers()
    raw = cast(dict[bytes, bytes], await services.redis.hgetall(keys.METRICS))
    counts = {name.decode(): float(value) for name, value in raw.items()}
    queues = {services.settings.default_queue, *(worker.queue for worker in workers)}
    families = [*_queues(await _depths(services, queues)), *_workers(workers), *_counters(counts)]
    return generate_latest(requests.registry) + generate_latest(_registry(families))


async def _depths(services: Services, queues: set[str]) -> dict[str, tuple[int, float]]:
    """For each queue: jobs that wait, and how long the next one has waited, seconds."""
    found = {}
    for queue in sorted(queues):
        age = 0.0
        job_id = await services.queueing.oldest(queue)
        if job_id is not None:
            created = cast(bytes | None, await services.redis.hget(keys.job(job_id), "created_at"))
            age = 0.0 if created is None else time.time() - datetime.fromisoformat(created.decode()).timestamp()
        found[queue] = (await services.queueing.depth(queue), max(age, 0.0))
    return found


def _queues(depths: Mapping[str, tuple[int, float]]) -> list[Metric]:
    depth = GaugeMetricFamily("mien_queue_jobs", "Jobs that wait.", labels=["queue"])
    age = GaugeMetricFamily("mien_queue_age_seconds", "How long the next job has waited.", labels=["queue"])
    for queue, (jobs, seconds) in depths.items():
        depth.add_metric([queue], jobs)
        age.add_metric([queue], seconds)
    return [depth, age]


def _workers(workers: list[WorkerInfo]) -> list[Metric]:
    states = GaugeMetricFamily("mien_workers", "Live workers.", labels=["bundle", "state"])
    gpu = GaugeMetricFamily("mien_worker_gpu_memory_bytes", "GPU memory in use.", labels=["worker", "device"])
    rss = GaugeMetricFamily("mien_worker_memory_bytes", "Main memory in use.", labels=["worker"])
    running = GaugeMetricFamily("mien_jobs_running", "Jobs that workers are at.")
    by_state: dict[tuple[str, str], int] = {}
    for worker in workers:
        by_state[worker.bundle, worker.state] = by_state.get((worker.bundle, worker.state), 0) + 1
        if worker.gpu_memory_bytes is not None:
            gpu.add_metric([worker.name, worker.device or ""], worker.gpu_memory_bytes)
        if worker.rss_bytes is not None:
            rss.add_metric([worker.name], worker.rss_bytes)
    for (bundle, state), number in by_state.items():
        states.add_metric([bundle, state], number)
    running.add_metric([], sum(worker.jobs_running for worker in workers))
    return [states, running, gpu, rss]


def _counters(counts: Mapping[str, float]) -> list[Metric]:
    plain = {
        counted.FRAMES: ("mien_frames", "Sampled frames labelled."),
        counted.FACES: ("mien_faces", "Faces labelled."),
        counted.BATCHES: ("mien_batches", "Batches that the backbone ran."),
        counted.BATCH_FILLED: ("mien_batch_crops", "Face crops in those batches."),
        counted.BATCH_SLOTS: ("mien_batch_slots", "Face crops that those batches could have held."),
        counted.BUSY_SECONDS: ("mien_busy_seconds", "Time that workers spent on jobs."),
        counted.MODEL_LOADS: ("mien_model_loads", "Bundles loaded."),
    }
    families: list[Metric] = []
    for field, (name, meaning) in plain.items():
        families.append(CounterMetricFamily(name, meaning, value=counts.get(field, 0.0)))
    ended = CounterMetricFamily("mien_jobs", "Jobs that workers ended.", labels=["state"])
    for state in sorted(ENDED):
        ended.add_metric([state], counts.get(counted.jobs(state), 0.0))
    stages = CounterMetricFamily("mien_stage_seconds", "Time spent in stages of the pipeline.", labels=["stage"])
    for field, value in sorted(counts.items()):
        if field.startswith(_STAGE):
            stages.add_metric([field.removeprefix(_STAGE)], value)
    return [*families, ended, stages]


def _registry(families: list[Metric]) -> CollectorRegistry:
    class _Once(Collector):
        def collect(self) -> list[Metric]:
            return families

    registry = CollectorRegistry()
    registry.register(_Once())
    return registry
