"""The source of a submission's content, if it is not in the request body."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Source(BaseModel):
    """A resumable upload or an address; without either, the request body is the content."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    upload: str | None = Field(
        None, pattern="^[0-9a-f]{32}$", description="Id of a complete resumable upload, instead of a file."
    )

    url: str | None = Field(
        None,
        max_length=2000,
        pattern=r"^(https?://[\x21-\x7e]+|s3://[^\x00-\x1f\x7f]+)$",
        description="Address from which the video is fetched: https, or s3://BUCKET/KEY, if the operator allows it.",
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.upload is not None and self.url is not None:
            raise ValueError("give upload or url, not both")
        return self

    @property
    def is_elsewhere(self) -> bool:
        """Whether the content is elsewhere than in the request body."""
        return self.upload is not None or self.url is not None
