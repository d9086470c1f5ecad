"""The table of OpenFace 2.2, which packages for R and Python read, followed by this service's labels.

Filled are `frame` (from 1), `face_id` (the person, or the track), `timestamp`, `confidence`, `success` and, with
`landmarks=true`, `pose_Rx`, `pose_Ry`, `pose_Rz` (radians, with OpenFace's signs) and the three of the 68 points that
are known: nose tip (30) and mouth corners (48, 54).  Gaze, eyes, shape and action units are not measured and stay
empty, which readers treat as missing.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator

from app.contract.exports.content import Content
from app.contract.frames import Face, Frame

_UNITS = ("01", "02", "04", "05", "06", "07", "09", "10", "12", "14", "15", "17", "20", "23", "25", "26")
COLUMNS: tuple[str, ...] = (
    *("frame", "face_id", "timestamp", "confidence", "success"),
    *(f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"),
    *("gaze_angle_x", "gaze_angle_y"),
    *(f"eye_lmk_{axis}_{i}" for axis in "xyXYZ" for i in range(56)),
    *(f"pose_T{axis}" for axis in "xyz"),
    *(f"pose_R{axis}" for axis in "xyz"),
    *(f"{axis}_{i}" for axis in "xyXYZ" for i in range(68)),
    *("p_scale", "p_rx", "p_ry", "p_rz", "p_tx", "p_ty"),
    *(f"p_{i}" for i in range(34)),
    *(f"AU{unit}_r" for unit in (*_UNITS, "45")),
    *(f"AU{unit}_c" for unit in (*_UNITS, "28", "45")),
)
_PLACES = {name: place for place, name in enumerate(COLUMNS)}
_POINTS = ((2, 30), (3, 48), (4, 54))  # indices among the five landmarks, and among the 68


def openface(frames: Iterable[Frame], content: Content) -> Iterator[str]:
    """A header, then a row per face and frame; a frame without faces has a row with `success` 0."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*COLUMNS, *content.labels])
    for frame in frames:
        for face in frame.faces:
            writer.writerow([*_row(frame, face), *face.scores])
        if not frame.faces:
            row: list[object] = [None] * len(COLUMNS)
            row[:5] = frame.frame_index + 1, 0, frame.timestamp_s, 0, 0
            writer.writerow([*row, *[None] * len(content.labels)])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _row(frame: Frame, face: Face) -> list[object]:
    row: list[object] = [None] * len(COLUMNS)
    number = face.track_id if face.person_id is None else face.person_id
    confidence = 1 if face.detection_score is None else face.detection_score
    row[:5] = frame.frame_index + 1, number, frame.timestamp_s, confidence, 1
    if face.looks is not None:
        yaw, pitch, roll = (math.radians(angle) for angle in face.looks.pose)
        # OpenFace's angles increase downwards and towards the picture's left.
        for axis, angle in zip("xyz", (-pitch, -yaw, roll), strict=True):
            row[_PLACES[f"pose_R{axis}"]] = round(angle, 4)
        for own, place in _POINTS:
            row[_PLACES[f"x_{place}"]], row[_PLACES[f"y_{place}"]] = face.looks.landmarks[own]
    return row
