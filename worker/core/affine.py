"""Affine maps: building them, and applying them to points and pictures.

A map is 2x3 float64, from source pixels to destination pixels.  Both are continuous coordinates, as in boxes and
landmarks: (0, 0) is the outer corner of the first pixel.
"""

from __future__ import annotations

import math
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from worker.core import picture as pictures
from worker.core.picture import Shown, sampled, whole
from worker.core.records import Floats, Image

Map = npt.NDArray[np.float64]
Real = TypeVar("Real", np.float32, np.float64)

MIRRORED = (1, 0, 2, 4, 3)  # order of the landmarks after a flip, which swaps left and right
LONGEST_PX = 2**15 - 2  # cv2.warpAffine stores coordinates in 16 bits
REDUCE_BELOW = 0.6  # scale below which a picture is reduced by area before warping, to avoid aliasing


def similarity(centre: tuple[float, float], to: tuple[float, float], scale: tuple[float, float], degrees: float) -> Map:
    """Scale by (x, y), where a negative x flips, then rotate by `degrees`, then move `centre` to `to`."""
    turn = np.deg2rad(degrees)
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag(scale)
    return np.hstack([linear, (np.asarray(to) - linear @ np.asarray(centre))[:, None]])


def aligning(points: Floats, target: Floats) -> Map:
    """Least-squares similarity from points (N, 2) to target (N, 2): rotation, uniform scale, translation.

    Source: Umeyama 1991, closed form for two dimensions, without reflections.
    """
    # Plain Python: for five points NumPy's call overhead exceeds the arithmetic.
    own, wanted = points.tolist(), target.tolist()
    count = len(own)
    x, y = sum(p[0] for p in own) / count, sum(p[1] for p in own) / count
    u, v = sum(q[0] for q in wanted) / count, sum(q[1] for q in wanted) / count
    size = along = across = 0.0
    for (px, py), (qx, qy) in zip(own, wanted, strict=True):
        size += (px - x) ** 2 + (py - y) ** 2
        along += (px - x) * (qx - u) + (py - y) * (qy - v)
        across += (px - x) * (qy - v) - (py - y) * (qx - u)
    a, b = along / max(size, 1e-12), across / max(size, 1e-12)
    return np.array([[a, -b, u - a * x + b * y], [b, a, v - b * x - a * y]])


def inverse(how: Map) -> Map:
    """The inverse map, 2x3."""
    return np.asarray(cv2.invertAffineTransform(how), np.float64)


def size_change(how: Map) -> float:
    """The mean scale factor of lengths."""
    return math.sqrt(abs(float(how[0, 0] * how[1, 1] - how[0, 1] * how[1, 0])))


def moved(points: npt.NDArray[np.floating], how: Map) -> npt.NDArray[np.float64]:
    """(N, 2) points after the map."""
    return np.asarray(points @ how[:, :2].T + how[:, 2], np.float64)


def warped(
    picture: Shown, how: Map, width: int, height: int, border: int, *, reduce_below: float = REDUCE_BELOW
) -> Image:
    """The picture under the map, (height, width, 3) uint8 RGB.

    border: OpenCV's border mode.  reduce_below: scale below which the picture is reduced by area first.
    """
    seen, how = seen_part(picture, how, width, height)
    if size_change(how) < reduce_below:
        seen, how = _reduced(seen, how)
    return pictures.warped(seen, _index_map(how), width, height, border)


def seen_part(picture: Shown, how: npt.NDArray[Real], width: int, height: int) -> tuple[Shown, npt.NDArray[Real]]:
    """Crop the picture to the part that a view of that size shows.  Returns the part and its map to the view.

    The cost of a view then depends on the part, not on the picture.  No side of the part exceeds `LONGEST_PX`.
    """
    # Plain Python: for single faces NumPy's call overhead exceeds the arithmetic.
    (a, b, x), (c, d, y) = how.tolist()
    size = a * d - b * c
    if not size:
        return pictures.part(picture, 0, min(LONGEST_PX, picture.shape[0]), 0, min(LONGEST_PX, picture.shape[1])), how
    margin = 3 + math.ceil(3 / math.sqrt(abs(size)))  # pixels that averaging and interpolation read beyond the view
    corners = [(u - x, v - y) for u in (0, width) for v in (0, height)]
    left, right = _span([(d * u - b * v) / size for u, v in corners], margin, picture.shape[1])
    top, bottom = _span([(a * v - c * u) / size for u, v in corners], margin, picture.shape[0])
    shifted = how.copy()
    shifted[:, 2] += how[:, :2] @ np.array([left, top], how.dtype)
    return pictures.part(picture, top, bottom, left, right), shifted


def _span(places: list[float], margin: int, length: int) -> tuple[int, int]:
    start = min(max(math.floor(min(places)) - margin, 0), length - 1) & ~1  # even: aligned with chroma samples
    end = min(max(math.ceil(max(places)) + margin, start + 1), start + LONGEST_PX, length)
    return start, end


def _reduced(picture: Shown, how: Map) -> tuple[Image, Map]:
    scale = size_change(how)
    height, width = picture.shape[:2]
    new_width, new_height = max(round(width * scale * 1.2), 1), max(round(height * scale * 1.2), 1)
    small = reduced(picture, new_height, new_width)
    how = how.copy()
    how[:, 0] *= width / new_width
    how[:, 1] *= height / new_height
    return small, how


def reduced(picture: Shown, height: int, width: int) -> Image:
    """The picture reduced to (height, width, 3) uint8 RGB; neither side may be larger than the picture's.

    Bilinear sampling at twice the size, then a 2x2 area mean: almost as good as the mean over all pixels, at a cost
    that does not depend on the size of the picture.
    """
    if picture.shape[:2] == (height, width):
        return whole(picture)
    if picture.shape[0] > 2 * height and picture.shape[1] > 2 * width:
        twice = sampled(picture, 2 * width, 2 * height)
        return np.asarray(cv2.resize(twice, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return sampled(picture, width, height)


def _index_map(how: Map) -> Map:
    # OpenCV's origin is the centre of the first pixel.
    how = how.copy()
    how[:, 2] += (how[:, 0] + how[:, 1] - 1) / 2
    return how
