"""What workers count: fields of the hash `keys.METRICS`, which all workers add to and the front end shows.

A worker adds with HINCRBYFLOAT (see `add`), once a chunk or a job; what it measures rather than counts (memory) is in
its WorkerInfo.
"""

from __future__ import annotations

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


def jobs(state: str) -> str:
    """Jobs that workers ended in a state."""
    return f"jobs:{state}"


class _Client(Protocol):
    def eval(self, script: str, numkeys: int, *keys_and_args: str) -> object:
        """As redis-py's."""


def add(client: _Client, counts: Mapping[str, float]) -> None:
    """Add to counters, through any redis-py client or pipeline."""
    pairs = [part for name, amount in counts.items() if amount for part in (name, str(float(amount)))]
    if pairs:
        client.eval(ADD, 1, keys.METRICS, *pairs)
