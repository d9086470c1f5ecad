"""What a worker asks of its decoding process, without the libraries that only the latter needs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from worker.decode import Sampling

ARCHIVES = frozenset({"zip", "tar", "folder", "image"})
MESSAGE_BYTES = 65_536  # of one message, at most


@dataclass(frozen=True)
class Input:
    """What is to be decoded.  media: `video` or one of `ARCHIVES`; fps: of images."""

    path: str
    media: str
    fps: float
    sampling: Sampling

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Input:
        return cls(**{**values, "sampling": Sampling(**values["sampling"])})
