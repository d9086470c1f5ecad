"""The best faces of each track: sharp, frontal, large, and not all at one time."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2

from worker.core.affine import aligning, warped
from worker.core.picture import Picture
from worker.core.records import Floats, Image
from worker.people.identity import SIDE, TEMPLATE

FACES = 3  # of a track
APART_S = 0.4  # of two faces of a track, at least
BETTER = 1.15  # a face takes another's place if it is so many times better
LEAST_WIDTH_PX = 24.0  # of a box; people cannot be told apart by smaller faces


@dataclass(frozen=True)
class BestFace:
    """A face that was chosen.  quality: comparable between faces.  picture: (150, 150, 3) RGB, aligned."""

    quality: float
    frame_index: int
    timestamp_s: float
    picture: Image


@dataclass
class BestFaces:
    """Of one track."""

    faces: list[BestFace] = field(default_factory=list)

    def offer(self, quality: float, frame_index: int, time_s: float, picture: Picture, landmarks: Floats) -> None:
        """A face of the track, which is cut out only where it is kept."""
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
    """How well a person can be told by a face; 0 where not at all."""
    if width_px < LEAST_WIDTH_PX:
        return 0.0
    (rx, ry), (lx, ly), (nx, ny) = landmarks[:3].tolist()
    across, down = lx - rx, ly - ry
    length = across * across + down * down
    if not length:
        return 0.0
    # The nose's place between the eyes, along their line: 0 of a frontal face, about 0.5 in profile.
    off = abs(((nx - rx) * across + (ny - ry) * down) / length - 0.5)
    return float(min(width_px, SIDE) * max(1 - 1.6 * off, 0.05) * (0.05 + sharpness))
