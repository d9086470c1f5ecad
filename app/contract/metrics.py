"""What workers count: fields of the hash `keys.METRICS`, which all workers add to and the front end shows.

A worker adds with HINCRBYFLOAT (see `add`), once a chunk or a job; what it measures rather than counts (memory) is in
its WorkerInfo.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from app.contract import keys

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


def jobs(state: str) -> str:
    """Jobs that workers ended in a state."""
    return f"jobs:{state}"


class _Pipeline(Protocol):
    def hincrbyfloat(self, name: str, key: str, amount: float) -> object:
        """As redis-py's."""


def add(pipeline: _Pipeline, counts: Mapping[str, float]) -> None:
    """Add to counters, through any redis-py client or pipeline."""
    for name, amount in counts.items():
        if amount:
            pipeline.hincrbyfloat(keys.METRICS, name, amount)
