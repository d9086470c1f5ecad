"""A detector on annotated frames: recall and false boxes.

The marks are a JSON file: `{"frames": [{"name", "width", "height", "faces": [[x, y, width, height], ...], "ignore":
[...]}]}` in pixels of the frame.  `ignore`: regions where a box counts neither way, for instance drawn faces.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from worker.core.boxes import iou_matrix
from worker.core.records import Floats, Image
from worker.errors import CommandError
from worker.faces import Detector

FOUND_IOU = 0.4  # one box and one mark, the best pairs first
LARGE_PX = 24.0  # at `SCALED_PX`; from this width on faces count as large
SCALED_PX = 640  # longer side of a frame in whose pixels faces are measured
IGNORED_IOU = 0.2

Box = tuple[float, float, float, float]


class MarkedFrame(BaseModel):
    """One frame.  faces, ignore: x, y, width, height."""

    model_config = ConfigDict(frozen=True)

    name: str
    width: int
    height: int
    faces: tuple[Box, ...]
    ignore: tuple[Box, ...] = ()


class _Marks(BaseModel):
    frames: tuple[MarkedFrame, ...]


@dataclass
class Found:
    """Counts over frames.  faces and found: of all marks; large_*: of those `LARGE_PX` wide at `SCALED_PX`."""

    frames: int = 0
    faces: int = 0
    found: int = 0
    large_faces: int = 0
    large_found: int = 0
    false_boxes: int = 0

    def figures(self) -> dict[str, float | int]:
        """The metrics for the report."""
        return {
            "frames": self.frames,
            "faces": self.faces,
            "recall": self.found / max(self.faces, 1),
            "large_faces": self.large_faces,
            "large_recall": self.large_found / max(self.large_faces, 1),
            "false_boxes_a_frame": self.false_boxes / max(self.frames, 1),
        }


def read_marks(path: Path) -> tuple[MarkedFrame, ...]:
    """Raises: CommandError where the file is missing or holds something else."""
    try:
        return _Marks.model_validate(json.loads(path.read_text())).frames
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, ValidationError):
        raise CommandError(f"{path} holds no marks of frames") from None


def measure(detector: Detector, marks: tuple[MarkedFrame, ...], folder: Path, min_score: float | None) -> Found:
    """The detector on every marked frame that lies in the folder.  Raises: CommandError where none does."""
    tally = Found()
    for frame in marks:
        image = _read(folder / frame.name)
        if image is not None:
            (faces,) = detector.detect([image], min_score)
            count(tally, frame, faces.boxes)
    if not tally.frames:
        raise CommandError(f"{folder} holds none of the marked frames")
    return tally


def count(tally: Found, frame: MarkedFrame, boxes: Floats) -> None:
    """One frame's boxes (N, 4) xyxy against its marks."""
    marks, ignored = _corners(frame.faces), _corners(frame.ignore)
    large = (marks[:, 2] - marks[:, 0]) * min(1, SCALED_PX / max(frame.width, frame.height)) >= LARGE_PX
    overlap = iou_matrix(boxes, marks)
    found = np.zeros(len(marks), np.bool_)
    free = np.ones(len(boxes), np.bool_)
    while overlap.size and overlap.max() >= FOUND_IOU:
        i, j = np.unravel_index(int(overlap.argmax()), overlap.shape)
        found[j], free[i] = True, False
        overlap[i], overlap[:, j] = 0, 0
    tally.frames += 1
    tally.faces += len(marks)
    tally.found += int(found.sum())
    tally.large_faces += int(large.sum())
    tally.large_found += int((found & large).sum())
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2  # (N, 2)
    inside = ((middles[:, None] >= ignored[:, :2]) & (middles[:, None] <= ignored[:, 2:])).all(axis=2)  # (N, M)
    excused = (inside | (iou_matrix(boxes, ignored) > IGNORED_IOU)).any(axis=1)
    tally.false_boxes += int((free & ~excused).sum())


def _corners(boxes: tuple[Box, ...]) -> Floats:
    found = np.array(boxes, np.float32).reshape(-1, 4)
    return np.hstack([found[:, :2], found[:, :2] + found[:, 2:]])


def _read(path: Path) -> Image | None:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return None if image is None else np.ascontiguousarray(image[..., ::-1], np.uint8)
