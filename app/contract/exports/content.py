"""What a file is to hold besides the frames."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.contract.segments import Smoothing


@dataclass(frozen=True)
class Content:
    """labels: in score order.  members: names of the members to show (none: fused scores only; otherwise all of the
    job's, in the job's order).  smoothing: of segments and captions."""

    labels: tuple[str, ...]
    members: tuple[str, ...] = ()
    smoothing: Smoothing = field(default_factory=Smoothing)
