"""Counts of the faces that a job's options exclude, for its warnings and its summary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from app.contract.jobs import LeftOutFaces
from worker.core.records import LabelledFrame, LeftOut
from worker.inference.pipeline import LabelOptions


@dataclass
class _Reason:
    """faces: summed over frames.  frames: with at least one.  most: in one frame."""

    faces: int = 0
    frames: int = 0
    most: int = 0

    def add(self, faces: int) -> None:
        self.faces += faces
        self.frames += bool(faces)
        self.most = max(self.most, faces)


class LeftOutTally:
    """Counts excluded faces over the frames of one input."""

    def __init__(self, options: LabelOptions) -> None:
        self._options = options
        self._too_many, self._too_small = _Reason(), _Reason()

    def counted(self, frames: Iterable[LabelledFrame]) -> Iterator[LabelledFrame]:
        """Yield the frames and count."""
        for frame in frames:
            self.add(frame.frame.left_out)
            yield frame

    def add(self, left_out: LeftOut) -> None:
        """Add one frame's counts."""
        self._too_many.add(left_out.too_many)
        self._too_small.add(left_out.too_small)

    def faces(self) -> LeftOutFaces:
        """Excluded faces by option, summed over frames."""
        return LeftOutFaces(max_faces=self._too_many.faces, min_face_px=self._too_small.faces)

    def warnings(self) -> list[str]:
        """A sentence for each option that excluded faces."""
        found = []
        for reason, why in (
            (self._too_many, f"more faces than max_faces={self._options.max_faces}"),
            (self._too_small, f"faces narrower than min_face_px={self._options.min_face_px:g}"),
        ):
            if reason.frames:
                frames = f"{reason.frames} frames show" if reason.frames > 1 else "one frame shows"
                found.append(f"{frames} {why}: up to {reason.most} a frame were left out")
        return found
