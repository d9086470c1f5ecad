"""Frame records: a job's result for every sampled frame, in order.

`Frame` and `Face` are the stored form (scores in label order, no names); `frame_record` returns the public JSON.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

LANDMARKS = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")
POSE = ("yaw", "pitch", "roll")


@dataclass(frozen=True, slots=True)
class Looks:
    """A face's properties besides its expression, with `landmarks=true`.

    landmarks: five x, y in shown, square pixels: the person's right eye, left eye, nose tip, right and left mouth
    corner.  pose: yaw, pitch, roll in degrees: positive towards the picture's right, up, and clockwise.  sharpness:
    of the crop that is labelled, about 0 (blurred) to 1 (sharp).
    """

    landmarks: tuple[tuple[float, float], ...]
    pose: tuple[float, float, float]
    sharpness: float


@dataclass(frozen=True, slots=True)
class Face:
    """A labelled face of one frame.

    track_id: one face over time.  bbox: x, y, width, height in shown, square pixels, origin top left.
    detection_score: 0..1, None if the input is face crops.  scores: (K,) fused probabilities in label order.
    members: (K,) probabilities of each member, in the job's member order.  looks: None unless the job asks for it.
    person_id, change: see `whole.Whole`; change: (K,) differences of log-odds to the person's own neutral face.
    """

    track_id: int
    bbox: tuple[float, float, float, float]
    detection_score: float | None
    scores: tuple[float, ...]
    members: tuple[tuple[float, ...], ...] = ()
    looks: Looks | None = None
    person_id: int | None = None
    change: tuple[float, ...] | None = None

    @property
    def size_px(self) -> float:
        """Side of a square with the area of the box, in pixels."""
        return round(math.sqrt(max(self.bbox[2] * self.bbox[3], 0.0)), 2)


@dataclass(frozen=True, slots=True)
class Frame:
    """One sampled frame.  frame_index: index in the source, from 0.  timestamp_s: the container's presentation time.

    size: (width, height) of its picture, None if equal to the job's.
    """

    frame_index: int
    timestamp_s: float
    faces: tuple[Face, ...] = field(default_factory=tuple)
    size: tuple[int, int] | None = None


class PoseRecord(BaseModel):
    """The rotation of a head, in degrees."""

    model_config = ConfigDict(frozen=True)

    yaw: float = Field(description="positive: towards the picture's right")
    pitch: float = Field(description="positive: up")
    roll: float = Field(description="positive: clockwise")


class FaceRecord(BaseModel):
    """A labelled face, as the API returns it."""

    model_config = ConfigDict(frozen=True)

    track_id: int = Field(description="one face over time, from 0")
    bbox: tuple[float, float, float, float] = Field(description="x, y, width, height in shown, square pixels")
    detection_score: float | None = Field(description="0..1; null if the frames are face crops")
    label: str = Field(description="the label with the highest score")
    score: float = Field(description="that score")
    scores: dict[str, float] = Field(description="probabilities of all labels, sum 1")
    members: dict[str, dict[str, float]] | None = Field(None, description="by member, with `members=true`")
    landmarks: tuple[tuple[float, float], ...] | None = Field(
        None,
        description="with `landmarks=true`: the person's right eye, left eye, nose tip, right and left mouth corner",
    )
    pose: PoseRecord | None = Field(None, description="with `landmarks=true`: fitted to the five points")
    sharpness: float | None = Field(None, description="with `landmarks=true`: about 0 (blurred) to 1 (sharp)")
    person_id: int | None = Field(
        None,
        description="with `people=true`: from 0; null until the job has ended, and for faces that are too small",
    )
    change: dict[str, float] | None = Field(
        None,
        description="with `baseline`: difference of each label's log-odds to the person's own neutral face; null until"
        " the job has ended",
    )
    size_px: float | None = Field(None, description="with `landmarks=true`: side of a square with the box's area")
    person_name: str | None = Field(None, description="name given to the person, in a job with named people")


class FrameRecord(BaseModel):
    """One sampled frame, as the API returns it; `faces` is empty if there is none."""

    model_config = ConfigDict(frozen=True)

    frame_index: int = Field(description="index in the source, from 0")
    timestamp_s: float = Field(description="the container's presentation time, seconds")
    faces: tuple[FaceRecord, ...]
    width: int | None = Field(None, description="of a picture whose size differs from the job's; its boxes refer to it")
    height: int | None = Field(None, description="as `width`")


def frame_record(
    frame: Frame, labels: Sequence[str], members: Sequence[str] = (), late: Sequence[str] = ()
) -> dict[str, Any]:
    """The public JSON of a stored frame.  members: names in the job's order; empty omits members' scores.

    late: requested fields that are known only once the job has ended, see `JobOptions.late_fields`.
    """
    record: dict[str, Any] = {
        "frame_index": frame.frame_index,
        "timestamp_s": frame.timestamp_s,
        "faces": [_face_record(face, labels, members, late) for face in frame.faces],
    }
    if frame.size is not None:
        record["width"], record["height"] = frame.size
    return record


def _face_record(face: Face, labels: Sequence[str], members: Sequence[str], late: Sequence[str]) -> dict[str, Any]:
    best = max(range(len(labels)), key=face.scores.__getitem__)
    record: dict[str, Any] = {
        "track_id": face.track_id,
        "bbox": list(face.bbox),
        "detection_score": face.detection_score,
        "label": labels[best],
        "score": face.scores[best],
        "scores": dict(zip(labels, face.scores, strict=True)),
    }
    if "person_id" in late:
        record["person_id"] = face.person_id
    if "change" in late:
        record["change"] = None if face.change is None else dict(zip(labels, face.change, strict=True))
    if face.looks is not None:
        record["landmarks"] = [list(point) for point in face.looks.landmarks]
        record["pose"] = dict(zip(POSE, face.looks.pose, strict=True))
        record["sharpness"] = face.looks.sharpness
        record["size_px"] = face.size_px
    if members:
        record["members"] = {
            name: dict(zip(labels, scores, strict=True)) for name, scores in zip(members, face.members, strict=True)
        }
    return record
