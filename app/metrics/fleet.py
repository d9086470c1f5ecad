"""Metrics of the whole service, which every front end reads from Redis and the upload store.

If several front ends are scraped, all export the same values: aggregate with `max`, never with a sum.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any, cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from app.contract import keys
from app.contract import metrics as counted
from app.contract.jobs import ENDED
from app.contract.priorities import INTERACTIVE, queue_beside
from app.contract.uploads import Space
from app.contract.workers import WorkerInfo
from app.services import Services

STORE_S = 1  # timeout of the store's probe
AT_WORK = frozenset({"ready", "busy"})

_STAGE = counted.stage_seconds("")
_FAILURE = counted.failures("")


@dataclass(frozen=True)
class Queue:
    """waiting: jobs.  age_s: how long the next of them has waited.  running, slots: of its live workers."""

    waiting: int
    age_s: float
    running: int
    slots: int


async def fleet(services: Services) -> bytes:
    """The metrics in Prometheus' text format.  Raises: RedisError."""
    workers = await services.registry.live_workers()
    async with services.redis.pipeline(transaction=False) as pipe:
        pipe.hgetall(keys.METRICS)
        pipe.info("memory")
        pipe.time()
        pipe.zrange(keys.WEBHOOKS, 0, 0, withscores=True)
        pipe.zcard(keys.WEBHOOKS)
        raw, memory, (now, _), due, webhooks = await pipe.execute()
    counts = {name.decode(): float(value) for name, value in cast(dict[bytes, bytes], raw).items()}
    bundles = {services.settings.default_queue, *(worker.queue for worker in workers)}
    space = await services.space.ask(STORE_S)
    lag_s = max(now - due[0][1], 0.0) if due else 0.0
    families = [
        *_queues(await _waiting(services, bundles, workers)),
        *_workers(workers),
        *_counters(counts),
        *_histograms(counts),
        *_webhooks(webhooks, lag_s),
        *_room(memory, space),
    ]
    return generate_latest(_registry(families))


async def _waiting(services: Services, bundles: set[str], workers: list[WorkerInfo]) -> dict[str, Queue]:
    found = {}
    for name in sorted(bundles | {queue_beside(bundle) for bundle in bundles}):
        age = 0.0
        job_id = await services.queueing.oldest(name)
        if job_id is not None:
            created = cast(bytes | None, await services.redis.hget(keys.job(job_id), "created_at"))
            age = 0.0 if created is None else time.time() - datetime.fromisoformat(created.decode()).timestamp()
        here = [worker for worker in workers if worker.queue == name]
        running = sum(worker.jobs_running for worker in here)
        slots = sum(worker.slots for worker in here if worker.state in AT_WORK)
        found[name] = Queue(await services.queueing.depth(name), max(age, 0.0), running, slots)
    return found


def _queues(queues: Mapping[str, Queue]) -> list[Metric]:
    depth = GaugeMetricFamily("mien_queue_jobs", "Waiting jobs.", labels=["queue"])
    age = GaugeMetricFamily("mien_queue_age_seconds", "How long the next job has waited.", labels=["queue"])
    running = GaugeMetricFamily("mien_queue_jobs_running", "Running jobs.", labels=["queue"])
    slots = GaugeMetricFamily("mien_queue_slots", "Jobs that live workers can label at once.", labels=["queue"])
    load = GaugeMetricFamily(
        "mien_load_ratio",
        "(running + waiting) / slots, with at least one slot; for scaling.",
        labels=["queue"],
    )
    for name, queue in queues.items():
        depth.add_metric([name], queue.waiting)
        age.add_metric([name], queue.age_s)
        beside = queues.get(queue_beside(name))
        if name.endswith(INTERACTIVE) or beside is None:  # the same workers serve both queues of a bundle
            continue
        waiting = queue.waiting + beside.waiting
        running.add_metric([name], queue.running)
        slots.add_metric([name], queue.slots)
        load.add_metric([name], (queue.running + waiting) / max(queue.slots, 1))
    return [depth, age, running, slots, load]


def _workers(workers: list[WorkerInfo]) -> list[Metric]:
    states = GaugeMetricFamily("mien_workers", "Live workers.", labels=["bundle", "state"])
    running = GaugeMetricFamily("mien_jobs_running", "Running jobs.")
    releases = GaugeMetricFamily("mien_workers_by_release", "Live workers.", labels=["version"])
    frames = CounterMetricFamily("mien_worker_frames", "Sampled frames labelled.", labels=["worker"])
    rss = GaugeMetricFamily("mien_worker_memory_bytes", "Main memory in use.", labels=["worker"])
    of_gpu = {
        "gpu_memory_bytes": ("mien_worker_gpu_memory_bytes", "GPU memory of the worker."),
        "gpu_memory_total_bytes": ("mien_gpu_memory_bytes", "Memory of the worker's GPU."),
        "gpu_utilisation": ("mien_gpu_utilisation_ratio", "Utilisation of the worker's GPU, 0 to 1."),
    }
    gpu = {field: GaugeMetricFamily(*said, labels=["worker", "device"]) for field, said in of_gpu.items()}
    by_state: dict[tuple[str, str], int] = {}
    by_release: dict[str, int] = {}
    for worker in workers:
        by_state[worker.bundle, worker.state] = by_state.get((worker.bundle, worker.state), 0) + 1
        by_release[worker.release or "0.1.0"] = by_release.get(worker.release or "0.1.0", 0) + 1
        frames.add_metric([worker.name], worker.frames_done)
        for field, family in gpu.items():
            if (value := getattr(worker, field)) is not None:
                family.add_metric([worker.name, worker.device or ""], value)
        if worker.rss_bytes is not None:
            rss.add_metric([worker.name], worker.rss_bytes)
    for (bundle, state), number in by_state.items():
        states.add_metric([bundle, state], number)
    for version, number in by_release.items():
        releases.add_metric([version], number)
    running.add_metric([], sum(worker.jobs_running for worker in workers))
    return [states, releases, running, frames, rss, *gpu.values()]


def _counters(counts: Mapping[str, float]) -> list[Metric]:
    plain = {
        counted.FRAMES: ("mien_frames", "Sampled frames labelled."),
        counted.FACES: ("mien_faces", "Faces labelled."),
        counted.BATCHES: ("mien_batches", "Batches that the backbone ran."),
        counted.BATCH_FILLED: ("mien_batch_crops", "Face crops in those batches."),
        counted.BATCH_SLOTS: ("mien_batch_slots", "Capacity of those batches in face crops."),
        counted.BUSY_SECONDS: ("mien_busy_seconds", "Time that workers spent on jobs."),
        counted.MODEL_LOADS: ("mien_model_loads", "Bundles loaded."),
    }
    families: list[Metric] = []
    for field, (name, meaning) in plain.items():
        families.append(CounterMetricFamily(name, meaning, value=counts.get(field, 0.0)))
    ended = CounterMetricFamily("mien_jobs", "Jobs that ended.", labels=["state"])
    for state in sorted(ENDED):
        ended.add_metric([state], counts.get(counted.jobs(state), 0.0))
    failures = CounterMetricFamily("mien_job_failures", "Failed jobs by error code.", labels=["code"])
    stages = CounterMetricFamily("mien_stage_seconds", "Time spent in stages of the pipeline.", labels=["stage"])
    for field, value in sorted(counts.items()):
        for prefix, family in ((_STAGE, stages), (_FAILURE, failures)):
            if field.startswith(prefix):
                family.add_metric([field.removeprefix(prefix)], value)
    return [*families, ended, failures, stages]


def _histograms(counts: Mapping[str, float]) -> list[Metric]:
    meanings = {
        counted.WAIT: ("mien_job_wait_seconds", "From a job's submission until a worker first claimed it."),
        counted.FIRST_RECORD: ("mien_first_record_seconds", "From a job's submission until its first records."),
        counted.RUN: ("mien_job_run_seconds", "Duration of the execution that ended a job."),
    }
    families: list[Metric] = []
    for histogram, (name, meaning) in meanings.items():
        bounds = (*counted.BOUNDS, float("inf"))
        cumulative = accumulate(counts.get(counted.bucket(histogram, bound), 0.0) for bound in bounds)
        buckets = [
            ("+Inf" if bound == float("inf") else str(bound), n) for bound, n in zip(bounds, cumulative, strict=True)
        ]
        total = counts.get(counted.total(histogram), 0.0)
        families.append(HistogramMetricFamily(name, meaning, buckets=buckets, sum_value=total))
    return families


def _webhooks(waiting: int, lag_s: float) -> list[Metric]:
    return [
        _gauge("mien_webhooks_waiting", "Webhooks that wait for delivery or a retry.", waiting),
        _gauge("mien_webhook_lag_seconds", "Time since the first webhook became due.", lag_s),
    ]


def _room(memory: Mapping[str, Any], space: Space | None) -> list[Metric]:
    families: list[Metric] = [
        _gauge("mien_redis_memory_bytes", "Memory that Redis uses.", memory["used_memory"]),
        _gauge("mien_redis_memory_limit_bytes", "Memory limit of Redis; 0: no limit.", memory["maxmemory"]),
    ]
    if space is not None:  # object storage does not tell
        families.append(_gauge("mien_store_free_bytes", "Free space of the upload store.", space.free))
        families.append(_gauge("mien_store_size_bytes", "Total space of the upload store.", space.total))
    return families


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=value)


def _registry(families: list[Metric]) -> CollectorRegistry:
    class _Once(Collector):
        def collect(self) -> list[Metric]:
            return families

    registry = CollectorRegistry()
    registry.register(_Once())
    return registry
