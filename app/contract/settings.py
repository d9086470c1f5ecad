"""Settings of both sides, from the environment with the prefix `MIEN_`.

The front end adds its own in `app.settings`, the worker in `worker.settings`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from pathlib import PurePosixPath

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.contract import heartbeats

PREFIX = "MIEN_"
RESEMBLES = 0.85  # of difflib's ratio
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


class SharedSettings(BaseSettings):
    """Settings on which a front end and its workers must agree."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis that holds queue and results; keep it on a private network with a password.",
    )
    uploads: str = Field(
        ".mien/uploads",
        description="Upload store: a folder that front end and workers share, or an fsspec URL such as s3://bucket/mien.",
    )
    bundle: str = Field(
        "default",
        min_length=1,
        description="The default model: name of a bundle in model_store/bundles, or a bundle's folder.",
    )
    max_upload_bytes: int = Field(2 * 2**30, ge=1, description="Largest request body, bytes.")
    max_frames: int = Field(200_000, ge=1, description="Most frames decoded from one input.")
    max_pixels: int = Field(33_000_000, ge=1, description="Most pixels in one frame (width times height).")
    max_decode_s: float = Field(
        3600,
        gt=0,
        allow_inf_nan=False,
        description="Most seconds of decoding one input, waits for the model apart.",
    )
    max_decode_bytes: int = Field(
        4 * 2**30, ge=2**27, description="Most memory that decoding one input may take, bytes."
    )
    result_ttl_s: int = Field(86_400, ge=1, description="How long results and kept inputs live, seconds.")
    heartbeat_s: float = Field(
        5,
        gt=0,
        le=60,
        description="How often a worker says that its job runs; silent four times as long, it counts as dead.",
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least severe log line shown.")
    log_json: bool = Field(False, description="Log one JSON object a line instead of text.")

    @field_validator("redis_url")
    @classmethod
    def _reachable(cls, value: str) -> str:
        if not value.startswith(REDIS_SCHEMES):
            raise ValueError(f"must start with {', '.join(REDIS_SCHEMES[:-1])} or {REDIS_SCHEMES[-1]}")
        return value

    @property
    def heartbeat_ttl_s(self) -> int:
        """Lease of a running job, extended by heartbeats: whole seconds, at least two, as it is a time to live."""
        return max(2, math.ceil(heartbeats.JOB_TTL * self.heartbeat_s))

    @property
    def default_queue(self) -> str:
        """Queue of the default bundle, known also while no worker is alive."""
        return queue_name(self.bundle)


def described(settings: type[SharedSettings]) -> str:
    """Every setting with its default and meaning, a paragraph each, for a command's help."""
    lines = []
    for name, field in settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        lines.append(f"MIEN_{name.upper()}={'' if shown is None else shown}: {field.description}")
    return "\n\n".join(["Settings, from the environment:", *lines])


def mistakes(error: ValidationError) -> list[str]:
    """Errors in settings, a line each, without their values, which may be secrets."""
    lines = []
    for wrong in error.errors():
        name = str(wrong["loc"][0]).upper() if wrong["loc"] else ""
        lines.append(f"MIEN_{name}: {wrong['msg'].removeprefix('Value error, ')}")
    return lines


def misspelt(settings: type[SharedSettings], names: Iterable[str]) -> dict[str, str]:
    """Variables whose names resemble a setting without being one -> the setting that was probably meant.

    Settings of the other side and of the compose file are not similar enough to match.
    """
    known = [f"{PREFIX}{name.upper()}" for name in settings.model_fields]
    found = {}
    for name in sorted(names):
        if name.startswith(PREFIX) and name not in known:
            for meant in difflib.get_close_matches(name, known, 1, RESEMBLES):
                found[name] = meant
    return found


def queue_name(bundle: str) -> str:
    """RQ queue of a bundle, from its name or folder: one queue per bundle, for which RQ's pop is crash-safe."""
    return f"mien-{PurePosixPath(bundle).name}"
