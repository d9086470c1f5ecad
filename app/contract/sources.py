"""Where a submission's content is, if it is not in the request."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Source(BaseModel):
    """A resumable upload, or nothing: then the request's body has the content."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    upload: str | None = Field(
        None, pattern="^[0-9a-f]{32}$", description="Id of a complete resumable upload, instead of a file."
    )

    @property
    def is_elsewhere(self) -> bool:
        """The request's body has no content."""
        return self.upload is not None
