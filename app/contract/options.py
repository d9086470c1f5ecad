"""Options of a job, as clients submit them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from app.contract.priorities import Priority
from app.contract.segments import MIN_SEGMENT_S, SMOOTH_S, UNSURE_BELOW

# The bundle defines the names of members, see `workers.MemberInfo`.
MemberName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,31}$")]
MOST_MEMBERS = 16  # more than any bundle has
PRIORS = {"balanced": 0.0, "training": 1.0}


def _split(value: object) -> object:
    """`cnn,cnn_rnn`, as in forms and queries -> a list."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


# Options that every release knows.
FIRST_OPTIONS = frozenset(
    {
        "sample_fps",
        "faces",
        "max_faces",
        "min_face_px",
        "min_score",
        "members",
        "model",
        "fps",
        "start_s",
        "end_s",
        "callback_url",
        "keep_input",
    }
)


def _is_baseline(value: str) -> str:
    number = r"\d{1,7}(?:\.\d{1,6})?"
    found = re.fullmatch(f"({number})-({number})", value)
    if value != "auto" and (found is None or float(found[1]) >= float(found[2])):
        raise ValueError("baseline is `auto`, or two times in seconds, such as `2-5.5`")
    return value


Baseline = Annotated[str, AfterValidator(_is_baseline)]
Members = Annotated[tuple[MemberName, ...], BeforeValidator(_split), Field(min_length=1, max_length=MOST_MEMBERS)]


def _prior(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        return handler(value)
    except ValidationError:  # its message names only one of the two types
        raise ValueError("should be balanced, training or a number from 0 to 1") from None


PriorShare = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Prior = Annotated[Literal["balanced", "training"] | PriorShare, WrapValidator(_prior)]
CallbackUrl = Annotated[AnyHttpUrl, PlainSerializer(str, return_type=str)]

LISTS = frozenset({"members"})  # options that are lists: forms and queries may repeat their field


class JobOptions(BaseModel):
    """Options of one job, with their defaults.  Text values of forms are accepted: `false` is false."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    sample_fps: float | None = Field(
        None,
        gt=0,
        le=1000,
        allow_inf_nan=False,
        description="Label at most this many frames per second; all if absent.",
    )
    faces: Literal["detect", "cropped"] = Field(
        "detect", description="`cropped`: every frame already is one face crop; the clip is one track."
    )
    max_faces: int = Field(
        10,
        ge=1,
        le=100,
        description="Most faces per frame: tracked faces first, then the largest.",
    )
    min_face_px: float = Field(16, ge=0, le=10_000, allow_inf_nan=False, description="Smaller faces are left out.")
    min_score: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Faces with a lower detection score are left out; default: the detector's own.",
    )
    members: Members | None = Field(
        None, description="Subset of the model's members to fuse, such as `cnn,cnn_rnn`; all if absent."
    )
    prior: Prior | None = Field(
        None,
        description="How far the scores follow the labels' shares in training: `training` (1), `balanced` (0: rare "
        "labels count as much as frequent ones), or a number in between; the model's own default.",
    )
    model: str | None = Field(None, min_length=1, max_length=64, description="Name of a served bundle.")
    fps: float = Field(30, gt=0, le=1000, allow_inf_nan=False, description="Frame rate of `frames` and of archives.")
    start_s: float | None = Field(None, ge=0, allow_inf_nan=False, description="Label from this time on, seconds.")
    end_s: float | None = Field(None, gt=0, allow_inf_nan=False, description="Label up to this time, seconds.")
    callback_url: CallbackUrl | None = Field(None, description="Signed webhook at the end.")
    keep_input: bool = Field(False, description="Keep the input until the job expires.")
    priority: Priority = Field("batch", description="`interactive`: a queue that workers prefer, four to one.")
    people: bool = Field(
        False,
        description="Group tracks by person (`person_id`); off by default, since this computes biometric data.",
    )
    baseline: Baseline | None = Field(
        None,
        description="Report each face's `change` from its person's own neutral face: `auto` takes it from their calmest"
        " fifth, `START-END` from these seconds of the video.",
    )
    landmarks: bool = Field(
        False, description="Report each face's five landmarks, pose, sharpness and size, and how far it can be trusted."
    )
    smooth_s: float = Field(
        SMOOTH_S,
        ge=0,
        le=10,
        allow_inf_nan=False,
        description="Segments, captions, lanes: smooth scores over this many seconds; 0: raw.",
    )
    min_segment_s: float = Field(
        MIN_SEGMENT_S,
        ge=0,
        le=60,
        allow_inf_nan=False,
        description="Shortest segment, seconds; not used if `smooth_s` is 0.",
    )
    unsure_below: float = Field(
        UNSURE_BELOW,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="A segment whose mean score is lower is marked `unsure`.",
    )

    @property
    def prior_share(self) -> float | None:
        """`prior` as a number; None: the model's default."""
        return PRIORS[self.prior] if isinstance(self.prior, str) else self.prior

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start_s is not None and self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError(f"end_s ({self.end_s}) must be greater than start_s ({self.start_s})")
        if self.members is not None and len(set(self.members)) != len(self.members):
            raise ValueError("members must not repeat")
        return self

    def stored(self) -> dict[str, Any]:
        """JSON for job records and for the comparison of submissions.

        Newer options are omitted if they have their default value: an older release can then read jobs that do not
        use them, and a submission that is repeated after an upgrade still compares equal.
        """
        kept = FIRST_OPTIONS | self.model_dump(exclude_defaults=True).keys()
        return {name: value for name, value in self.model_dump(mode="json").items() if name in kept}

    @property
    def late_fields(self) -> tuple[str, ...]:
        """Requested fields of faces that are known only once the job has ended."""
        return (*(("person_id",) if self.people else ()), *(("change",) if self.baseline else ()))

    @property
    def baseline_span_s(self) -> tuple[float, float] | None:
        """Start and end of `baseline` in seconds, or None for `auto` and for no baseline."""
        if self.baseline is None or self.baseline == "auto":
            return None
        start, _, end = self.baseline.partition("-")
        return float(start), float(end)
