"""What affine maps do to faces, and blending a picture into a scene; maps as in `worker.core.affine`."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from worker.core.affine import MIRRORED, Map, moved, warped
from worker.core.records import Floats, Image


def moved_faces(faces: Floats, how: Map) -> Floats:
    """(N, 14) faces after the map.

    A turned face keeps an upright box: the one around the turned ellipse that fills the old box, which is what a
    detector answers for a turned head, and not the larger one around the box's corners.
    """
    half = (faces[:, 2:4] - faces[:, :2]) / 2  # (N, 2)
    centre = moved((faces[:, :2] + faces[:, 2:4]) / 2, how)
    new_half = np.sqrt((half**2) @ (how[:, :2] ** 2).T)  # (N, 2)
    marks = moved(faces[:, 4:].reshape(-1, 2), how).reshape(-1, 5, 2)
    if np.linalg.det(how[:, :2]) < 0:
        marks = marks[:, MIRRORED]
    return np.hstack([centre - new_half, centre + new_half, marks.reshape(-1, 10)]).astype(np.float32)


def moved_boxes(boxes: Floats, how: Map) -> Floats:
    """(N, 4) boxes after the map, as `moved_faces` moves them."""
    return moved_faces(np.hstack([boxes, np.zeros((len(boxes), 10), np.float32)]), how)[:, :4]


def paste(scene: Image, picture: Image, mask: Image, how: Map) -> None:
    """Blend `picture` (h, w, 3) into `scene` (H, W, 3) where `mask` (h, w) uint8 is not 0; changes the scene."""
    height, width = picture.shape[:2]
    corners = moved(np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64), how)
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int), (scene.shape[1], scene.shape[0]))
    if (high <= low).any():
        return
    here = how.copy()
    here[:, 2] -= low
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    new = warped(picture, here, *size, cv2.BORDER_REPLICATE)
    share = warped(mask, here, *size, cv2.BORDER_CONSTANT).astype(np.float32)[..., None] / 255
    part = scene[low[1] : high[1], low[0] : high[0]]
    part[...] = np.rint(part + (new.astype(np.float32) - part) * share)


def polygon(scene: Image, points: npt.NDArray[np.float64], colour: tuple[int, ...], how: Map) -> None:
    """Fill a convex polygon, (N, 2) points in the picture's pixels; changes the scene."""
    cv2.fillConvexPoly(scene, np.rint(moved(points, how)).astype(np.int32), colour, cv2.LINE_AA)


def ellipse_points(x: float, y: float, half_width: float, half_height: float) -> npt.NDArray[np.float64]:
    """24 points on an ellipse."""
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return np.stack([x + half_width * np.cos(turn), y + half_height * np.sin(turn)], axis=1)
