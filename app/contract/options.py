"""Options of a job: what a client may ask for when submitting."""

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

# Which members there are is the bundle's to say, see `workers.MemberInfo`.
MemberName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,31}$")]
MOST_MEMBERS = 16  # more than any bundle has
PRIORS = {"balanced": 0.0, "training": 1.0}


def _split(value: object) -> object:
    """`cnn,cnn_rnn` as forms and queries carry it -> a list."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


# Those that every release knows.
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
    except ValidationError:  # which would name one of its two kinds only
        raise ValueError("should be balanced, training or a number from 0 to 1") from None


PriorShare = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Prior = Annotated[Literal["balanced", "training"] | PriorShare, WrapValidator(_prior)]
CallbackUrl = Annotated[AnyHttpUrl, PlainSerializer(str, return_type=str)]

LISTS = frozenset({"members"})  # options that are lists, which forms and queries may also carry as several fields


class JobOptions(BaseModel):
    """Options of one job, with their defaults.  Text as forms carry it is accepted: `false` is false."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    sample_fps: float | None = Field(
        None, gt=0, le=1000, allow_inf_nan=False, description="Label at most so many frames a second; all where absent."
    )
    faces: Literal["detect", "cropped"] = Field(
        "detect", description="`cropped`: every frame already is one face crop; the clip is one track."
    )
    max_faces: int = Field(
        10,
        ge=1,
        le=100,
        description="At most so many faces a frame: those that have a track stay, then the largest count.",
    )
    min_face_px: float = Field(16, ge=0, le=10_000, allow_inf_nan=False, description="Smaller faces are left out.")
    min_score: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Less certain faces are left out; the detector's own default.",
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
    priority: Priority = Field("batch", description="`interactive`: in a queue that workers take from more often.")
    people: bool = Field(
        False,
        description="Say by `person_id` which tracks are the same person; off, since faces are biometric data.",
    )
    baseline: Baseline | None = Field(
        None,
        description="Give each face's `change` from its person's own neutral face: `auto` takes that from their calmest"
        " fifth, `START-END` from these seconds of the video.",
    )
    landmarks: bool = Field(
        False, description="Give each face's five landmarks, pose, sharpness and size, and how far it can be trusted."
    )
    smooth_s: float = Field(
        SMOOTH_S,
        ge=0,
        le=10,
        allow_inf_nan=False,
        description="Segments, captions, lanes: smooth scores over so many seconds; 0: raw.",
    )
    min_segment_s: float = Field(
        MIN_SEGMENT_S,
        ge=0,
        le=60,
        allow_inf_nan=False,
        description="The shortest segment, seconds; not where `smooth_s` is 0.",
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
        """`prior` as a number, None where it is left to the model."""
        return PRIORS[self.prior] if isinstance(self.prior, str) else self.prior

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start_s is not None and self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError(f"end_s ({self.end_s}) must be greater than start_s ({self.start_s})")
        if self.members is not None and len(set(self.members)) != len(self.members):
            raise ValueError("members must not repeat")
        return self

    def stored(self) -> dict[str, Any]:
        """As JSON, as records hold them and as submissions are compared.

        Options that came later are left out where they are the default: a release that does not know them reads the
        jobs that do not use them, and a submission that is repeated after an upgrade is still the same.
        """
        kept = FIRST_OPTIONS | self.model_dump(exclude_defaults=True).keys()
        return {name: value for name, value in self.model_dump(mode="json").items() if name in kept}

    @property
    def late_fields(self) -> tuple[str, ...]:
        """Fields of faces that the job asks for and that are known only when it has ended."""
        return (*(("person_id",) if self.people else ()), *(("change",) if self.baseline else ()))

    @property
    def baseline_span_s(self) -> tuple[float, float] | None:
        """The seconds that `baseline` names, if it names some."""
        if self.baseline is None or self.baseline == "auto":
            return None
        start, _, end = self.baseline.partition("-")
        return float(start), float(end)
