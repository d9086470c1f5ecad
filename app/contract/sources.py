"""The source of a submission's content, if it is not in the request body."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Source(BaseModel):
    """A resumable upload; without one the request body has the content."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    upload: str | None = Field(
        None, pattern="^[0-9a-f]{32}$", description="Id of a complete resumable upload, instead of a file."
    )

    @property
    def is_elsewhere(self) -> bool:
        """Whether the content is not in the request body."""
        return self.upload is not None
