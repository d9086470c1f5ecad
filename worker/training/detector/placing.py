"""Moving pictures and faces: affine maps, what they do to boxes and landmarks, and blending a picture into a scene.

Maps are 2x3 float64 from pixels of the picture to pixels of the scene, both continuous: (0, 0) is the outer corner of
the first pixel, as boxes and landmarks are.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from worker.records import Floats, Image

Map = npt.NDArray[np.float64]

MIRRORED = (1, 0, 2, 4, 3)  # the order of landmarks after a flip: a person's right eye becomes the left one
REDUCE_BELOW = 0.6  # warping samples single pixels: pictures that shrink more are reduced by area first


def similarity(centre: tuple[float, float], to: tuple[float, float], scale: tuple[float, float], degrees: float) -> Map:
    """Scale by (x, y), negative x to flip, turn, and move `centre` to `to`."""
    turn = np.deg2rad(degrees)
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag(scale)
    return np.hstack([linear, (np.asarray(to) - linear @ np.asarray(centre))[:, None]])


def inverse(how: Map) -> Map:
    """From pixels of the scene back to pixels of the picture."""
    return np.asarray(cv2.invertAffineTransform(how), np.float64)


def size_change(how: Map) -> float:
    """How much longer a length becomes, on average."""
    return float(np.sqrt(abs(np.linalg.det(how[:, :2]))))


def moved_faces(faces: Floats, how: Map) -> Floats:
    """(N, 14) faces after the map.

    A turned face keeps an upright box: the one around the turned ellipse that fills the old box, which is what a
    detector answers for a turned head, and not the larger one around the box's corners.
    """
    half = (faces[:, 2:4] - faces[:, :2]) / 2  # (N, 2)
    centre = _moved((faces[:, :2] + faces[:, 2:4]) / 2, how)
    new_half = np.sqrt((half**2) @ (how[:, :2] ** 2).T)  # (N, 2)
    marks = _moved(faces[:, 4:].reshape(-1, 2), how).reshape(-1, 5, 2)
    if np.linalg.det(how[:, :2]) < 0:
        marks = marks[:, MIRRORED]
    return np.hstack([centre - new_half, centre + new_half, marks.reshape(-1, 10)]).astype(np.float32)


def moved_boxes(boxes: Floats, how: Map) -> Floats:
    """(N, 4) boxes after the map, as `moved_faces` moves them."""
    return moved_faces(np.hstack([boxes, np.zeros((len(boxes), 10), np.float32)]), how)[:, :4]


def warped(picture: Image, how: Map, width: int, height: int, border: int) -> Image:
    """The picture as the map shows it on (height, width) pixels; border: OpenCV's constant for what lies beyond it."""
    picture, how = _reduced(picture, how)
    return np.asarray(cv2.warpAffine(picture, _index_map(how), (width, height), borderMode=border), np.uint8)


def paste(scene: Image, picture: Image, mask: Image, how: Map) -> None:
    """Blend `picture` (h, w, 3) into `scene` (H, W, 3) where `mask` (h, w) uint8 is not 0; changes the scene."""
    height, width = picture.shape[:2]
    corners = _moved(np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64), how)
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
    cv2.fillConvexPoly(scene, np.rint(_moved(points, how)).astype(np.int32), colour, cv2.LINE_AA)


def ellipse_points(x: float, y: float, half_width: float, half_height: float) -> npt.NDArray[np.float64]:
    """24 points on an ellipse."""
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return np.stack([x + half_width * np.cos(turn), y + half_height * np.sin(turn)], axis=1)


def _moved(points: npt.NDArray[np.floating], how: Map) -> npt.NDArray[np.float64]:
    return np.asarray(points @ how[:, :2].T + how[:, 2], np.float64)


def _reduced(picture: Image, how: Map) -> tuple[Image, Map]:
    scale = size_change(how)
    if scale >= REDUCE_BELOW:
        return picture, how
    height, width = picture.shape[:2]
    new_width, new_height = max(round(width * scale * 1.2), 1), max(round(height * scale * 1.2), 1)
    small = cv2.resize(picture, (new_width, new_height), interpolation=cv2.INTER_AREA)
    how = how.copy()
    how[:, 0] *= width / new_width
    how[:, 1] *= height / new_height
    return np.asarray(small, np.uint8), how


def _index_map(how: Map) -> Map:
    # OpenCV counts from the middle of the first pixel.
    how = how.copy()
    how[:, 2] += how[:, :2] @ np.array([0.5, 0.5]) - 0.5
    return how
