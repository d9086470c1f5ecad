"""The request of a worker to its decoding process, without the decoders' libraries."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from worker.decode import Sampling

ARCHIVES = frozenset({"zip", "tar", "folder", "image"})
MESSAGE_BYTES = 65_536  # maximum size of a message


@dataclass(frozen=True)
class Input:
    """An input to decode.  media: `video` or one of `ARCHIVES`.  fps: frame rate of images."""

    name: ClassVar[str] = "input"

    path: str
    media: str
    fps: float
    sampling: Sampling

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Input:
        return cls(**{**values, "sampling": Sampling(**values["sampling"])})


@dataclass(frozen=True)
class Sound:
    """An input whose sound is to be put beside pictures.  See `sound.add_sound`.

    made_bytes: the maximum size of the result.
    """

    name: ClassVar[str] = "sound"

    path: str
    pictures: str
    made: str
    made_bytes: int
    start_s: float | None
    end_s: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Sound:
        return cls(**values)
