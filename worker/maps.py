"""Affine maps of pictures, what points become under them, and what a picture looks like after one.

Maps are 2x3 float64 from pixels of a picture to pixels of what shows it, both continuous: (0, 0) is the outer corner of
the first pixel, as boxes and landmarks are.
"""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from worker.records import Floats, Image

Map = npt.NDArray[np.float64]
Real = TypeVar("Real", np.float32, np.float64)

MIRRORED = (1, 0, 2, 4, 3)  # the order of landmarks after a flip: a person's right eye becomes the left one
LONGEST_PX = 2**15 - 2  # OpenCV's warping counts pixels of a side in 16 bits
REDUCE_BELOW = 0.6  # warping samples single pixels: pictures that shrink more are reduced by area first


def similarity(centre: tuple[float, float], to: tuple[float, float], scale: tuple[float, float], degrees: float) -> Map:
    """Scale by (x, y), negative x to flip, turn, and move `centre` to `to`."""
    turn = np.deg2rad(degrees)
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag(scale)
    return np.hstack([linear, (np.asarray(to) - linear @ np.asarray(centre))[:, None]])


def aligning(points: Floats, target: Floats) -> npt.NDArray[np.float32]:
    """Least-squares similarity (2, 3) float32 that takes points (N, 2) to target (N, 2): rotation, one scale, shift.

    Source: Umeyama 1991, in the closed form for two dimensions; reflections are not allowed.
    """
    mean, target_mean = points.mean(axis=0), target.mean(axis=0)
    p, q = points - mean, target - target_mean
    norm = max(float((p * p).sum()), 1e-12)
    a = float((p * q).sum()) / norm
    b = float((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()) / norm
    linear = np.array([[a, -b], [b, a]])
    return np.hstack([linear, (target_mean - linear @ mean)[:, None]]).astype(np.float32)


def inverse(how: Map) -> Map:
    """From pixels of the scene back to pixels of the picture."""
    return np.asarray(cv2.invertAffineTransform(how), np.float64)


def size_change(how: Map) -> float:
    """How much longer a length becomes, on average."""
    return float(np.sqrt(abs(np.linalg.det(how[:, :2]))))


def moved(points: npt.NDArray[np.floating], how: Map) -> npt.NDArray[np.float64]:
    """(N, 2) points after the map."""
    return np.asarray(points @ how[:, :2].T + how[:, 2], np.float64)


def warped(picture: Image, how: Map, width: int, height: int, border: int) -> Image:
    """The picture as the map shows it on (height, width) pixels; border: OpenCV's constant for what lies beyond it."""
    picture, how = _reduced(*seen_part(picture, how, width, height))
    return np.asarray(cv2.warpAffine(picture, _index_map(how), (width, height), borderMode=border), np.uint8)


def seen_part(picture: Image, how: npt.NDArray[Real], width: int, height: int) -> tuple[Image, npt.NDArray[Real]]:
    """The part of a picture that a view of that size shows, no more, and the map from that part to the view.

    A view of a large picture costs what its part does.  No side of the part is longer than `LONGEST_PX`.
    """
    back = np.linalg.inv(np.vstack([how, (0, 0, 1)]).astype(np.float64))
    corners = back[:2] @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    margin = 3 + np.ceil(3 * size_change(back[:2]))  # what averaging and interpolation look at beyond the view
    starts = []
    for axis, length in ((0, picture.shape[1]), (1, picture.shape[0])):
        start = int(np.clip(np.floor(corners[axis].min()) - margin, 0, length - 1))
        end = int(np.clip(np.ceil(corners[axis].max()) + margin, start + 1, min(start + LONGEST_PX, length)))
        starts.append((start, end))
    (left, right), (top, bottom) = starts
    shifted = how.copy()
    shifted[:, 2] += how[:, :2] @ np.array([left, top], how.dtype)
    return picture[top:bottom, left:right], shifted


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
