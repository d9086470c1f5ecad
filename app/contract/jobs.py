"""A job as it lies in Redis and as clients see it.

`JobRecord` is the hash `mien:job:{id}`: every field is one hash field, so that both sides change single fields in
`transitions.py`'s scripts.  `Job` is the public JSON, made of a record by the front end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from app.contract.media import STORED, InputKind
from app.contract.naming import Metadata, PersonNote
from app.contract.options import JobOptions

RECORD_FORMAT = 1
JOB_TIMEOUT_S = 6 * 3600  # a job that labels for so long is given up
RENDER_TIMEOUT_S = 3600  # likewise one that draws
MAX_ATTEMPTS = 3  # executions that a job may cost: where the worker of each died, it has failed
State = Literal["queued", "running", "succeeded", "failed", "canceled"]
Stage = Literal["fetching"]
ENDED: frozenset[State] = frozenset({"succeeded", "failed", "canceled"})
ErrorCode = Literal[
    "undecodable_input",
    "limit_exceeded",
    "worker_lost",
    "not_started",
    "out_of_memory",
    "invalid_option",
    "storage_full",
    "fetch_failed",
    "internal",
]


def _stored(media: str) -> str:
    if media and media not in STORED:
        raise ValueError(f"this release knows no {media!r}")
    return media


class JobError(BaseModel):
    """Why a job failed, in words for its owner."""

    code: ErrorCode
    detail: str


class InputInfo(BaseModel):
    """The input.  Sizes of the picture are null until a worker opened it; `frame_count` is what was decoded, at the
    end, the container's claim before."""

    kind: InputKind
    bytes: int = Field(ge=0)
    sha256: str
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    duration_s: float | None = None
    frame_count: int | None = None


class ModelRef(BaseModel):
    """The bundle that labels; its version is null until a worker takes the job, where none was alive before."""

    name: str
    version: str | None = None


class Progress(BaseModel):
    """How far the job is; frames are sampled frames."""

    frames_done: int = 0
    frames_total: int | None = None
    bytes_fetched: int | None = Field(None, description="of a video that is fetched, while it is")
    bytes_total: int | None = Field(None, description="likewise, as far as its host tells")
    frames_per_second: float | None = None
    eta_s: float | None = None


class LeftOutFaces(BaseModel):
    """Faces that options left out, summed over the frames; between two looks at a whole frame, those of the last."""

    max_faces: int = Field(description="beyond max_faces")
    min_face_px: int = Field(description="narrower than min_face_px")


class Links(BaseModel):
    """Where to go from here."""

    self: str
    frames: str
    summary: str
    events: str
    timeline: str
    video: str
    preview: str
    thumbnail: str
    cancel: str


class Job(BaseModel):
    """A job as clients see it."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    id: str
    name: str | None = Field(None, description="the upload's file name, or what was given; only ever shown")
    metadata: dict[str, str] = Field(default_factory=dict, description="what the client gave, by key")
    batch: str | None = Field(None, description="the batch that it belongs to")
    persons: tuple[PersonNote, ...] = Field((), description="names that tracks were given, and which are one person")
    state: State
    stage: Stage | None = Field(None, description="`fetching`: the job is queued once its video is here")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime
    options: JobOptions
    model: ModelRef
    input: InputInfo
    progress: Progress
    labels: tuple[str, ...] | None = None
    label_shares: dict[str, float] | None = Field(
        None, description="share of all faces of all frames on which a label comes first, 0..1; null until the end"
    )
    detector: str | None = None
    prior: float | None = Field(None, description="what the scores are given at; null until known, or without meaning")
    error: JobError | None = None
    warnings: tuple[str, ...] = ()
    attempts: int = 0
    worker: str | None = None
    queue_position: int | None = None
    links: Links


class UnreadableRecordError(ValueError):
    """A record is damaged, or says what only another release understands: the job is left to those who know it."""


class JobRecord(BaseModel):
    """The hash `mien:job:{id}`.

    The front end writes it whole once; afterwards only `transitions.py`'s scripts change it.  execution: the token of
    the one execution whose writes count; worker: who has it, or had it last.  owner: hash of the API key that made the
    job, "" where keys are off.  callback: where a webhook goes when the job ends, "" for none.  unknown_options: of a
    newer release; no field of the hash.  idempotency: the Redis key that the submission's Idempotency-Key stands for,
    "" for none.  revision grows with every visible change.
    """

    format: int = RECORD_FORMAT
    id: str
    owner: str = ""
    request_id: str = ""
    queue: str
    name: str | None = None
    metadata: Metadata = Field(default_factory=dict)
    batch: str | None = None
    persons: tuple[PersonNote, ...] = ()
    media: Annotated[str, AfterValidator(_stored)]
    state: State = "queued"
    stage: Stage | None = None
    url: str = ""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime
    options: JobOptions
    model: ModelRef
    input: InputInfo
    progress: Progress = Progress()
    labels: tuple[str, ...] | None = None
    members: tuple[str, ...] | None = None
    label_shares: dict[str, float] | None = None
    detector: str | None = None
    prior: float | None = None
    error: JobError | None = None
    warnings: tuple[str, ...] = ()
    left_out: LeftOutFaces | None = None
    attempts: int = 0
    worker: str | None = None
    execution: str = ""
    cancel_requested: bool = False
    input_deleted: bool = False
    callback: str = ""
    idempotency: str = ""
    revision: int = 0
    unknown_options: tuple[str, ...] = Field((), exclude=True)

    def to_hash(self) -> dict[str, str]:
        """Hash fields: text as it is, everything else as JSON; fields that are null are left out."""
        values = self.model_dump(mode="json") | {"options": self.options.stored()}
        return {name: to_field(value) for name, value in values.items() if value is not None}

    @classmethod
    def from_hash(cls, fields: Mapping[bytes, bytes]) -> Self:
        """The record of a hash as Redis gives it.

        Fields and options that this release does not know are passed over, so that a front end reads what newer or
        older ones and workers wrote; `unknown_options` names the options.  Raises: UnreadableRecordError.
        """
        values: dict[str, Any] = {}
        try:
            for key, raw in fields.items():
                name = key.decode()
                if name in cls.model_fields:
                    text = raw.decode()
                    values[name] = text if name in _TEXT_FIELDS else json.loads(text)
            given = dict(values["options"])
            unknown = sorted(given.keys() - JobOptions.model_fields.keys())
            known = {name: value for name, value in given.items() if name not in unknown}
            return cls.model_validate({**values, "options": known, "unknown_options": unknown})
        except ValidationError as error:  # whose words would have values of clients in them
            places = [".".join(map(str, found["loc"])) for found in error.errors()]
            raise UnreadableRecordError(f"unknown values of {', '.join(places)}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise UnreadableRecordError(f"damaged: {type(error).__name__}") from error


def to_field(value: Any) -> str:
    """A hash field's text: text as it is, times as the API shows them, everything else as JSON."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def to_pairs(fields: Mapping[str, Any]) -> list[str]:
    """Hash fields as scripts take them: name, value, name, value."""
    return [part for name, value in fields.items() for part in (name, to_field(value))]


def ending(state: State, ttl_s: int, **fields: Any) -> dict[str, Any]:
    """The hash fields of a job that ends now, whoever ends it.  ttl_s: how long it and its results live from now on."""
    now = utc_now()
    return {**fields, "state": state, "finished_at": now, "expires_at": now + timedelta(seconds=ttl_s)}


def utc_now() -> datetime:
    """The time now, in UTC, to the millisecond: what the API shows."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


# Fields that Redis holds as bare text: identifiers, states and times; the others are JSON.
_TEXT_FIELDS = frozenset(
    {
        "id",
        "owner",
        "request_id",
        "queue",
        "name",
        "batch",
        "media",
        "state",
        "stage",
        "url",
        "created_at",
        "started_at",
        "finished_at",
        "expires_at",
        "detector",
        "worker",
        "execution",
        "callback",
        "idempotency",
    }
)
