"""Metrics of a running job: times of its stages, batches of the engine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

import redis

from app.contract import metrics
from worker.ensemble.engine import Engine
from worker.inference.stage_timing import StageClocks

COUNT_S = 5  # interval

Item = TypeVar("Item")


def counted(connection: redis.Redis, engine: Engine, clocks: StageClocks, items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items, and flush metrics every `COUNT_S` and at the end."""
    last = time.monotonic()
    try:
        for item in items:
            yield item
            if time.monotonic() - last > COUNT_S:
                last = time.monotonic()
                _count(connection, engine, clocks)
    finally:
        _count(connection, engine, clocks)


def _count(connection: redis.Redis, engine: Engine, clocks: StageClocks) -> None:
    done = engine.take_stats()  # includes concurrent jobs
    counts = {metrics.stage_seconds(stage): seconds for stage, seconds in clocks.take().items()}
    counts |= {metrics.BATCHES: done.batches, metrics.BATCH_FILLED: done.crops, metrics.BATCH_SLOTS: done.capacity}
    # The job's own writes report an outage of Redis; lost counters must not fail a job.
    with suppress(redis.RedisError):
        pipe = connection.pipeline(transaction=False)
        metrics.add(pipe, counts)
        pipe.execute()
