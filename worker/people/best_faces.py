"""The best faces of each track: sharp, frontal, large, and at different times."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2

from worker.core.affine import aligning, warped
from worker.core.picture import Picture
from worker.core.records import Floats, Image
from worker.people.identity import SIDE, TEMPLATE

FACES = 2  # most faces per track
OFFER_S = 0.1  # minimum interval of the faces of a track that are considered
APART_S = 0.4  # minimum distance in time of two faces of a track
SLACK_S = 1e-3  # rounding of timestamps
BETTER = 1.15  # a face replaces another if its quality is this many times higher
LEAST_WIDTH_PX = 24.0  # width of a box; smaller faces do not distinguish people


@dataclass(frozen=True)
class BestFace:
    """A chosen face.  quality: comparable between faces.  picture: (150, 150, 3) RGB, aligned."""

    quality: float
    frame_index: int
    timestamp_s: float
    picture: Image


@dataclass
class BestFaces:
    """The best faces of one track."""

    faces: list[BestFace] = field(default_factory=list)
    _next_s: float = -math.inf

    def is_due(self, time_s: float) -> bool:
        """Whether a face at this time is to be considered; if so, none of the next `OFFER_S` is."""
        due = time_s >= self._next_s
        if due:
            self._next_s = time_s + OFFER_S - SLACK_S
        return due

    def offer(self, quality: float, frame_index: int, time_s: float, picture: Picture, landmarks: Floats) -> None:
        """Add a face of the track; it is cropped only if it is kept."""
        rival = next((face for face in self.faces if abs(face.timestamp_s - time_s) < APART_S), None)
        if rival is None and len(self.faces) == FACES:
            rival = min(self.faces, key=lambda face: face.quality)
        if rival is not None:
            if quality <= BETTER * rival.quality:
                return
            self.faces.remove(rival)
        how = aligning(landmarks, TEMPLATE * SIDE)
        self.faces.append(
            BestFace(quality, frame_index, time_s, warped(picture, how, SIDE, SIDE, cv2.BORDER_REPLICATE))
        )


def quality_of(width_px: float, landmarks: Floats, sharpness: float) -> float:
    """How well a face identifies a person; 0: not at all."""
    if width_px < LEAST_WIDTH_PX:
        return 0.0
    (rx, ry), (lx, ly), (nx, ny) = landmarks[:3].tolist()
    across, down = lx - rx, ly - ry
    length = across * across + down * down
    if not length:
        return 0.0
    # Offset of the nose from the middle of the eyes, along their line: 0 for a frontal face, about 0.5 in profile.
    off = abs(((nx - rx) * across + (ny - ry) * down) / length - 0.5)
    return float(min(width_px, SIDE) * max(1 - 1.6 * off, 0.05) * (0.05 + sharpness))
