"""The files of portraits, with generated pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

RIGHT_EYE, LEFT_EYE, NOSE, RIGHT_MOUTH, LEFT_MOUTH = (60, 62), (100, 62), (80, 86), (64, 103), (96, 103)


def write_portraits(folder: Path, labels: list[int], *, damaged: int | None = None) -> None:
    """A dark picture each, with a bright spot at the right eye; `damaged`: the one that is no JPEG."""
    picture = np.full((160, 160), 40, np.uint8)
    cv2.circle(picture, RIGHT_EYE, 5, 250, -1)
    encoded = cv2.imencode(".jpg", picture)[1].tobytes()
    pictures = [b"no picture" if k == damaged else encoded for k in range(len(labels))]
    offsets = np.cumsum([0, *map(len, pictures)])
    landmarks = np.array([RIGHT_EYE, LEFT_EYE, NOSE, RIGHT_MOUTH, LEFT_MOUTH], np.float32).ravel()
    faces = np.zeros((len(labels), 15), np.float32)
    faces[:, 4:14] = landmarks
    jpeg = np.frombuffer(b"".join(pictures), np.uint8)
    np.savez(folder / "detector_faces.npz", jpeg=jpeg, offsets=offsets, faces=faces)
    np.save(folder / "portrait_expressions.npy", np.array(labels, np.int8))
