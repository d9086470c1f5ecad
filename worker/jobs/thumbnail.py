"""A job's thumbnail: its best face."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from app.contract.frames import Face, Frame
from worker.core.records import DecodedFrame, Image

SIDE_PX = 160
MARGIN = 0.35  # around the box, as a share of its longer side
LARGE_PX = 120  # a larger face does not score higher
QUALITY = 82  # JPEG quality, for a few KB


def best_face(frames: Iterable[Frame]) -> tuple[Frame, Face] | None:
    """The face with the highest product of detection score, size and label score; None without faces."""
    faces = ((frame, face) for frame in frames for face in frame.faces)
    return max(faces, key=lambda found: _quality(found[1]), default=None)


def picture_at(source: Iterable[DecodedFrame], timestamp_s: float) -> Image | None:
    """The readable frame nearest to a time, (H, W, 3) uint8 RGB; None without one."""
    readable = (frame for frame in source if frame.picture is not None)
    nearest = min(readable, key=lambda frame: abs(frame.timestamp_s - timestamp_s), default=None)
    return None if nearest is None else nearest.image


def thumbnail(image: Image, face: Face) -> bytes:
    """The face with a margin, as JPEG.  image: (H, W, 3) uint8 RGB."""
    x, y, width, height = face.bbox
    half = max(width, height) * (0.5 + MARGIN)
    scale = SIDE_PX / (2 * half)
    matrix = np.array(
        [[scale, 0, (half - x - width / 2) * scale], [0, scale, (half - y - height / 2) * scale]], np.float32
    )
    around = 1 / scale  # pixels of the image in one of the thumbnail: blur first, against aliasing
    smooth = cv2.GaussianBlur(image, (0, 0), around / 2) if around > 1.5 else image
    crop = cv2.warpAffine(smooth, matrix, (SIDE_PX, SIDE_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    encoded = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return encoded.tobytes()


def _quality(face: Face) -> float:
    found = 1.0 if face.detection_score is None else face.detection_score
    return found * min(min(face.bbox[2:]) / LARGE_PX, 1.0) * (0.5 + max(face.scores))
