"""A video with a real face: camera movement over a portrait.

The portrait is NASA's of the astronaut Eileen Collins, in the public domain, from scikit-image.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from worker.demo import DemoError

WIDTH, HEIGHT = 640, 360
FPS = 25
SECONDS = 6
FACE = (224.0, 125.0)  # centre of the face in the portrait, pixels
ZOOM, ZOOM_CHANGE = 1.65, 0.25  # mean and largest deviation; the face is about 100 pixels tall in the portrait
PAN_PX = (40.0, 12.0)  # largest distance of the face from the picture's centre
ROLL_DEGREES = 4.0


def make_clip(path: Path) -> Path:
    """Write the clip as mp4 to `path` and return the path."""
    portrait = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR)  # type: ignore[no-untyped-call]  # it has no annotations
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise DemoError(f"OpenCV cannot write an mp4 to {path}")
    for frame in range(FPS * SECONDS):
        picture = cv2.warpAffine(
            portrait,
            _camera(frame / FPS),
            (WIDTH, HEIGHT),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        writer.write(picture)
    writer.release()
    return path


def _camera(time_s: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The affine map (2, 3) of the portrait at this time: slow sines with unrelated periods."""
    zoom = ZOOM + ZOOM_CHANGE * math.sin(2 * math.pi * time_s / SECONDS)
    roll = ROLL_DEGREES * math.sin(2 * math.pi * time_s / 3.7)
    matrix = np.asarray(cv2.getRotationMatrix2D(FACE, roll, zoom), np.float64)
    matrix[0, 2] += WIDTH / 2 - FACE[0] + PAN_PX[0] * math.sin(2 * math.pi * time_s / 4.3)
    matrix[1, 2] += HEIGHT / 2 - FACE[1] + PAN_PX[1] * math.sin(2 * math.pi * time_s / 2.9)
    return matrix
