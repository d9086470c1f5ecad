"""The members of an ensemble: what each is called, which head it has, and how pages and charts show it.

A further member is an entry of `MEMBERS` here, a network in `worker.ensemble.members`, and sizes in the recipes
(`worker.training.recipes.HeadSettings`).  The front end knows members only by what workers say of their bundle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class HeadSpec(BaseModel):
    """Architecture and sizes of a member's head, as manifests hold them."""

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
    """A pre-norm Transformer over a window; `position_axis` as in MODEL: published checkpoints use "batch"."""

    architecture: Literal["transformer"] = "transformer"
    embedding: int = Field(768, ge=2)
    heads: int = Field(12, ge=1)
    depth: int = Field(2, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)
    position_axis: Literal["batch", "time"] = "time"


@dataclass(frozen=True)
class MemberKind:
    """A member that bundles may have.

    title, short: its name for people, where there is room and where there is little.  note: what it looks at.
    weight: its share in the fusion where nothing was fitted, before shares are scaled to sum 1.
    """

    name: str
    head: type[HeadSpec]
    title: str
    short: str
    note: str
    weight: float = 1.0

    @property
    def architecture(self) -> str:
        """What manifests call its head."""
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
