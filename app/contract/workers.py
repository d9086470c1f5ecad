"""The records that workers publish: of themselves and of their bundles."""

from __future__ import annotations

import os
import secrets
import socket
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

WorkerState = Literal["starting", "ready", "busy", "stopping", "failed"]


def process_name() -> str:
    """A unique name of this process, made of host name, process id and a random suffix."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def host_of(name: str) -> str:
    """The host in a worker's name."""
    return name.rsplit("-", 2)[0]


class WorkerInfo(BaseModel):
    """One worker process, for `/health/ready` and `/v1/models`.

    slots: jobs that it labels at once.  frames_done: sampled frames that it labelled.  gpu_memory_bytes: of this
    process; the other two are of the whole GPU, `gpu_utilisation` from 0 to 1; null without a GPU.
    """

    name: str
    release: str | None = None
    state: WorkerState
    detail: str | None = None
    bundle: str
    version: str | None = None
    queue: str
    device: str | None = None
    precision: str | None = None
    detector: str | None = None
    started_at: datetime
    slots: int = 1
    jobs_running: int = 0
    jobs_done: int = 0
    frames_done: int = 0
    gpu_memory_bytes: int | None = None
    gpu_memory_total_bytes: int | None = None
    gpu_utilisation: float | None = None
    rss_bytes: int | None = None


class MemberInfo(BaseModel):
    """A member as clients see it.  title, short: display name and abbreviation.  note: what it reads."""

    name: str
    title: str = ""
    short: str = ""
    note: str = ""
    backbone: str
    head: str
    temperature: float
    fusion_weight: float


class PriorInfo(BaseModel):
    """A bundle's label frequencies.  shares: of each label in training, sum 1.

    trained: the exponent, 0 to 1, with which its members' scores contain them.  default: that of a job without `prior`.
    """

    shares: tuple[float, ...]
    trained: float
    default: float


class ModelInfo(BaseModel):
    """A bundle as clients see it: labels, members, measured quality and provenance.

    prior: null if jobs cannot choose one.
    """

    name: str
    version: str
    queue: str
    labels: tuple[str, ...]
    window: int
    members: tuple[MemberInfo, ...]
    prior: PriorInfo | None = None
    metrics: list[dict[str, Any]]
    provenance: dict[str, Any]
    licence: str
    intended_use: str
