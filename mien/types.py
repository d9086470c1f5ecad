"""The service's JSON answers; fields that a newer service adds are kept."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

State = Literal["queued", "running", "succeeded", "failed", "canceled"]
Format = Literal["csv", "ndjson", "vtt", "srt", "parquet", "eaf", "openface", "textgrid"]
SUFFIXES: dict[Format, str] = {"openface": "openface.csv", "textgrid": "TextGrid"}  # of files; others are the format
ENDED = frozenset({"succeeded", "failed", "canceled"})


class Progress(TypedDict):
    """Progress of a job; frames are sampled frames."""

    frames_done: int
    frames_total: int | None
    frames_per_second: float | None
    eta_s: float | None


class Failure(TypedDict):
    """The reason of a failure."""

    code: str
    detail: str


class Job(TypedDict):
    """A job."""

    id: str
    name: str | None
    metadata: dict[str, str]
    batch: str | None
    state: State
    created_at: str
    started_at: str | None
    finished_at: str | None
    expires_at: str
    options: dict[str, Any]
    model: dict[str, Any]
    input: dict[str, Any]
    progress: Progress
    labels: list[str] | None
    detector: str | None
    error: Failure | None
    warnings: list[str]
    attempts: int
    queue_position: int | None
    links: dict[str, str]


class Face(TypedDict):
    """A labelled face.  bbox: x, y, width, height in shown pixels; scores: probabilities of all labels."""

    track_id: int
    bbox: list[float]
    detection_score: float | None
    label: str
    score: float
    scores: dict[str, float]
    members: NotRequired[dict[str, dict[str, float]]]


class Record(TypedDict):
    """A sampled frame.  timestamp_s: media time in seconds, as in a player."""

    frame_index: int
    timestamp_s: float
    faces: list[Face]


class Batch(TypedDict):
    """The jobs of a batch."""

    name: str
    jobs: int
    states: dict[State, int]
    complete: bool
    links: dict[str, str]
