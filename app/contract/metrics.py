"""What is counted over the whole service: fields of the hash `keys.METRICS`, which every front end shows.

Workers add with HINCRBYFLOAT (see `add`), once a chunk or a job; the scripts that end a job count its end.  What a
worker measures rather than counts (memory, use of its GPU) is in its WorkerInfo.
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
BATCH_SLOTS = "batch_slots"  # crops that they could have held
BUSY_SECONDS = "busy_seconds"  # time spent on jobs
MODEL_LOADS = (
    "model_loads"  # bundles loaded: one a worker start, and one when an idle worker that gave it back has a job
)


def stage_seconds(stage: str) -> str:
    """Time spent in a stage of the pipeline: `decode`, `faces`, `crops`, `ensemble`, `results`."""
    return f"stage_seconds:{stage}"


# Of jobs, in seconds.  Waits count from the submission, by the clock of the front end that took it.
WAIT = "wait"  # until a worker took it for the first time
FIRST_RECORD = "first_record"  # until the first frame records could be read
RUN = "run"  # of the execution that ended it
BOUNDS = (0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)  # upper ends of the histograms' buckets


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
    """What one observation adds."""
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
