"""Jobs: the record in Redis and the public JSON.

`JobRecord` is the hash `mien:job:{id}`, one hash field per field, so that the scripts of `transitions.py` can change
single fields.  `Job` is the public JSON, which the front end makes from a record.
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
JOB_TIMEOUT_S = 6 * 3600  # timeout of a labelling job
RENDER_TIMEOUT_S = 3600  # timeout of a rendition
MAX_ATTEMPTS = 3  # executions before a job whose workers all died fails
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
        raise ValueError(f"unknown kind of input {media!r}")
    return media


class JobError(BaseModel):
    """The reason of a failure, for the job's owner."""

    code: ErrorCode
    detail: str


class InputInfo(BaseModel):
    """The input.  Picture sizes are null until a worker has opened it; `frame_count` is the container's claim at first,
    and the decoded number at the end."""

    kind: InputKind
    bytes: int = Field(ge=0)
    sha256: str
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    duration_s: float | None = None
    frame_count: int | None = None


class ModelRef(BaseModel):
    """The bundle; its version is null until a worker takes the job, if no worker was alive before."""

    name: str
    version: str | None = None


class Progress(BaseModel):
    """Progress of the job; frames are sampled frames."""

    frames_done: int = 0
    frames_total: int | None = None
    bytes_fetched: int | None = Field(None, description="of the video, while it is fetched")
    bytes_total: int | None = Field(None, description="as `bytes_fetched`; null if the host does not report it")
    frames_per_second: float | None = None
    eta_s: float | None = None


class LeftOutFaces(BaseModel):
    """Faces excluded by options, summed over frames; between two scans, those of the last scan count."""

    max_faces: int = Field(description="beyond max_faces")
    min_face_px: int = Field(description="narrower than min_face_px")


class Links(BaseModel):
    """Addresses of the job's resources."""

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
    """A job as the API returns it."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    id: str
    name: str | None = Field(None, description="the upload's file name, or the given name; for display only")
    metadata: dict[str, str] = Field(default_factory=dict, description="the client's texts, by key")
    batch: str | None = Field(None, description="the job's batch")
    persons: tuple[PersonNote, ...] = Field((), description="notes on people: names, tracks, visibility")
    state: State
    stage: Stage | None = Field(None, description="`fetching`: the job is queued once its video has arrived")
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
        None, description="share of all faces of all frames on which a label ranks first, 0..1; null until the end"
    )
    detector: str | None = None
    prior: float | None = Field(None, description="prior of the scores; null until known, and for models without one")
    error: JobError | None = None
    warnings: tuple[str, ...] = ()
    attempts: int = 0
    worker: str | None = None
    queue_position: int | None = None
    links: Links


class UnreadableRecordError(ValueError):
    """A record is damaged, or of a release that this one cannot read; the job is left to processes that can."""


class JobRecord(BaseModel):
    """The hash `mien:job:{id}`.

    The front end writes it once; afterwards only the scripts of `transitions.py` change it.  execution: token of the
    lease holder, the only execution that may write; worker: its worker, or the last one.  owner: hash of the API key,
    "" without keys.  callback: URL of the webhook, "" for none.  unknown_options: options of a newer release; not a
    hash field.  idempotency: Redis key of the submission's Idempotency-Key, "" for none.  revision increases with every
    visible change.
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
        """Hash fields: text unchanged, everything else as JSON; null fields are omitted."""
        values = self.model_dump(mode="json") | {"options": self.options.stored()}
        return {name: to_field(value) for name, value in values.items() if value is not None}

    @classmethod
    def from_hash(cls, fields: Mapping[bytes, bytes]) -> Self:
        """Parse a hash from Redis.

        Unknown fields and options are ignored, so that a front end can read records of other releases;
        `unknown_options` names the options.  Raises: UnreadableRecordError.
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
        except ValidationError as error:  # its message would contain clients' values
            places = [".".join(map(str, found["loc"])) for found in error.errors()]
            raise UnreadableRecordError(f"unknown values of {', '.join(places)}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise UnreadableRecordError(f"damaged: {type(error).__name__}") from error


def to_field(value: Any) -> str:
    """A hash field's text: text unchanged, times in the API's format, everything else as JSON."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def to_pairs(fields: Mapping[str, Any]) -> list[str]:
    """Hash fields in the form of script arguments: name, value, name, value."""
    return [part for name, value in fields.items() for part in (name, to_field(value))]


def ending(state: State, ttl_s: int, **fields: Any) -> dict[str, Any]:
    """The hash fields of a job that ends now.  ttl_s: time to live of the job and its results from now on."""
    now = utc_now()
    return {**fields, "state": state, "finished_at": now, "expires_at": now + timedelta(seconds=ttl_s)}


def utc_now() -> datetime:
    """The current time in UTC, in milliseconds, the API's precision."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


# Fields stored as plain text: identifiers, states and times; the others are JSON.
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
