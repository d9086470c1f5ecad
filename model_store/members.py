"""The members of an ensemble: names, heads, and their display in pages and charts.

A new member needs an entry in `MEMBERS` here, a network in `worker.ensemble.members`, and sizes in the recipes
(`worker.training.recipes.HeadSettings`).  The front end reads members from the records that workers publish.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class HeadSpec(BaseModel):
    """Architecture and sizes of a member's head, as in manifests."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: str


class FrameHeadSpec(HeadSpec):
    """A linear classifier on one frame's feature."""

    architecture: Literal["frame"] = "frame"


class RecurrentHeadSpec(HeadSpec):
    """A bidirectional GRU over a window."""

    architecture: Literal["gru"] = "gru"
    embedding: int = Field(768, ge=1)
    hidden: int = Field(384, ge=1)


class TransformerHeadSpec(HeadSpec):
    """A pre-norm Transformer over a window.  position_axis: see `TransformerHead`; published checkpoints: "batch"."""

    architecture: Literal["transformer"] = "transformer"
    embedding: int = Field(768, ge=2)
    heads: int = Field(12, ge=1)
    depth: int = Field(2, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)
    position_axis: Literal["batch", "time"] = "time"


@dataclass(frozen=True)
class MemberKind:
    """A member that bundles may have.

    title, short: display name, and its abbreviation for small spaces.  note: what the member reads.
    weight: default weight in the fusion if none was fitted, before normalisation to sum 1.
    """

    name: str
    head: type[HeadSpec]
    title: str
    short: str
    note: str
    weight: float = 1.0

    @property
    def architecture(self) -> str:
        """The head's architecture name in manifests."""
        return str(self.head.model_fields["architecture"].default)


MEMBERS = {
    kind.name: kind
    for kind in (
        MemberKind("cnn", FrameHeadSpec, "CNN", "CNN", "looks at single frames"),
        MemberKind("cnn_rnn", RecurrentHeadSpec, "CNN-GRU", "GRU", "reads nine frames in order"),
        MemberKind(
            "cnn_transformer", TransformerHeadSpec, "CNN-Transformer", "Transf.", "compares nine frames with each other"
        ),
    )
}
