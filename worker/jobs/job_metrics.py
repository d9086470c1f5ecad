"""What a running job adds to the counters that `/metrics` shows: time of its stages, batches of the engine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

import redis

from app.contract import metrics
from worker.ensemble.engine import Engine
from worker.inference.stage_timing import StageClocks

COUNT_S = 5  # how often

Item = TypeVar("Item")


def counted(connection: redis.Redis, engine: Engine, clocks: StageClocks, items: Iterable[Item]) -> Iterator[Item]:
    """The items; while they pass, every few seconds and at their end, what was done meanwhile is counted."""
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
    done = engine.take_stats()  # also of jobs beside this one
    counts = {metrics.stage_seconds(stage): seconds for stage, seconds in clocks.take().items()}
    counts |= {metrics.BATCHES: done.batches, metrics.BATCH_FILLED: done.crops, metrics.BATCH_SLOTS: done.capacity}
    # Where Redis is away, the job's own writes say so; counters are not worth a job.
    with suppress(redis.RedisError):
        pipe = connection.pipeline(transaction=False)
        metrics.add(pipe, counts)
        pipe.execute()
