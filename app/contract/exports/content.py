"""Contents of a file besides the frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.contract.segments import Smoothing


@dataclass(frozen=True)
class Content:
    """labels: in score order.  members: names of the members to show (none: fused scores only; otherwise all of the
    job's, in the job's order).  smoothing: of segments and captions.  lead: name and value of columns before all
    others, which distinguish clips in a shared file.  header: whether tables begin with a row of names.  landmarks:
    whether the job reports them.  late: see `JobOptions.late_fields`.  about: job and model, for formats with a place
    for them.  names: of people, by track; faces have a `person_name` unless it is None."""

    labels: tuple[str, ...]
    members: tuple[str, ...] = ()
    smoothing: Smoothing = field(default_factory=Smoothing)
    lead: tuple[tuple[str, str], ...] = ()
    header: bool = True
    landmarks: bool = False
    late: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[int, str] | None = None
