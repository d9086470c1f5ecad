"""Counters of the whole service: fields of the hash `keys.METRICS`, which every front end exports.

Workers increment them with HINCRBYFLOAT (see `add`), once per chunk or job; the scripts that end a job count its end.
Gauges of a worker (memory, GPU utilisation) are in its WorkerInfo.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from typing import Protocol

from app.contract import keys
from app.contract.scripts.workers import ADD

FRAMES = "frames"  # sampled frames labelled
FACES = "faces"  # faces labelled
BATCHES = "batches"  # batches that the backbone ran
BATCH_FILLED = "batch_filled"  # crops in them
BATCH_SLOTS = "batch_slots"  # their capacity in crops
BUSY_SECONDS = "busy_seconds"  # time spent on jobs
MODEL_LOADS = "model_loads"  # bundles loaded: at a worker's start, and for a job after an idle release


def stage_seconds(stage: str) -> str:
    """Time spent in a stage of the pipeline: `decode`, `faces`, `crops`, `ensemble`, `results`."""
    return f"stage_seconds:{stage}"


# Of jobs, in seconds.  Waits start at the submission, by the clock of the front end that received it.
WAIT = "wait"  # until a worker first claimed the job
FIRST_RECORD = "first_record"  # until the first frame records were readable
RUN = "run"  # of the last execution
BOUNDS = (0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)  # upper bounds of the histograms' buckets


def jobs(state: str) -> str:
    """Jobs that ended in a state."""
    return f"jobs:{state}"


def failures(code: str) -> str:
    """Failed jobs by the code of their error."""
    return f"failures:{code}"


def bucket(histogram: str, bound: float) -> str:
    """Observations of at most `bound`, and more than the bound before."""
    return f"{histogram}:le:{bound}"


def total(histogram: str) -> str:
    """Sum of all observations."""
    return f"{histogram}:sum"


def observed(histogram: str, seconds: float) -> dict[str, float]:
    """The increments of one observation."""
    bound = (*BOUNDS, math.inf)[bisect_left(BOUNDS, seconds)]
    return {bucket(histogram, bound): 1, total(histogram): seconds}


class _Client(Protocol):
    def eval(self, script: str, numkeys: int, *keys_and_args: str) -> object:
        """As redis-py's."""


def add(client: _Client, counts: Mapping[str, float]) -> None:
    """Add to counters, through any redis-py client or pipeline."""
    pairs = [part for name, amount in counts.items() if amount for part in (name, str(float(amount)))]
    if pairs:
        client.eval(ADD, 1, keys.METRICS, *pairs)
