"""Affine maps of pictures: what a view shows, and that it costs no more than the part that it shows."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from worker.core.affine import LONGEST_PX, aligning, inverse, moved, seen_part, similarity, warped
from worker.core.picture import whole
from worker.core.records import Image
from worker.faces.looking import UPRIGHT


def textured(height: int, width: int) -> Image:
    """Soft noise, so that a wrong place shows."""
    small = np.random.default_rng(3).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def difference(a: Image, b: Image) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.mark.parametrize("mirrored", [1, -1])
@pytest.mark.parametrize("degrees", [0.0, 33.0])
@pytest.mark.parametrize("scale", [0.2, 1.0, 2.2])
def test_a_view_shows_what_the_map_says(scale: float, degrees: float, mirrored: int) -> None:
    """A dot of the picture lies in the view where the map takes its place, whatever part of the picture is seen."""
    picture = np.zeros((700, 900, 3), np.uint8)
    at = np.array([[612.5, 251.5]])
    radius = round(4 / scale)
    cv2.circle(picture, (612, 251), radius, (255, 255, 255), -1)
    how = similarity((600, 260), (50, 40), (mirrored * scale, scale), degrees)
    view = warped(picture, how, 100, 80, cv2.BORDER_CONSTANT)[:, :, 0].astype(float)
    ys, xs = np.mgrid[:80, :100] + 0.5
    seen = np.array([(xs * view).sum(), (ys * view).sum()]) / view.sum()
    assert seen == pytest.approx(moved(at, how)[0], abs=0.3)
    assert moved(moved(at, how), inverse(how)) == pytest.approx(at)


@pytest.mark.parametrize("centre", [(450, 350), (2, 690), (-40, 300), (880, 3)])
@pytest.mark.parametrize("scale", [0.15, 0.8, 3.0])
def test_a_part_of_the_picture_is_enough(centre: tuple[float, float], scale: float) -> None:
    """The view of the part is the view of the whole, also at and beyond the border."""
    picture = textured(700, 900)
    how = similarity(centre, (32, 32), (scale, scale), 20)
    part, shifted = seen_part(picture, how, 64, 64)
    turned = 64 * (np.cos(np.deg2rad(20)) + np.sin(np.deg2rad(20))) / scale
    assert max(part.shape[:2]) <= turned + 2 * (3 + 3 / scale) + 4
    index = how.copy()
    index[:, 2] += how[:, :2] @ np.array([0.5, 0.5]) - 0.5
    own = shifted.copy()
    own[:, 2] += shifted[:, :2] @ np.array([0.5, 0.5]) - 0.5
    of_whole = cv2.warpAffine(picture, index, (64, 64), borderMode=cv2.BORDER_REPLICATE)
    of_part = cv2.warpAffine(whole(part), own, (64, 64), borderMode=cv2.BORDER_REPLICATE)
    assert difference(np.asarray(of_whole, np.uint8), np.asarray(of_part, np.uint8)) < 0.5


def test_very_long_pictures_can_be_seen() -> None:
    """OpenCV warps no picture with a side above 32,766 pixels; a view needs only its part."""
    picture = np.zeros((40, LONGEST_PX + 5000, 3), np.uint8)
    picture[:, 34000:34010] = 255
    view = warped(picture, similarity((34005, 20), (20, 20), (1, 1), 0), 40, 40, cv2.BORDER_REPLICATE)
    assert view[20, 20, 0] == 255
    assert view[20, 5, 0] == 0


@pytest.mark.parametrize("seed", range(20))
def test_aligning_recovers_a_known_similarity(seed: int) -> None:
    """From points and where a similarity takes them, that similarity comes back."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-50, 50, (5, 2)).astype(np.float32)
    scale = float(rng.uniform(0.1, 10))
    to = (float(rng.uniform(-100, 100)), float(rng.uniform(-100, 100)))
    truth = similarity((0, 0), to, (scale, scale), float(rng.uniform(-180, 180)))
    np.testing.assert_allclose(aligning(points, moved(points, truth).astype(np.float32)), truth, rtol=1e-4, atol=2e-3)


def test_aligning_never_mirrors() -> None:
    """Mirrored points are met by a turn and a scale: the determinant stays positive."""
    assert np.linalg.det(aligning(UPRIGHT, UPRIGHT * np.array([-1, 1], np.float32))[:, :2]) >= 0


def test_aligning_one_point_is_finite() -> None:
    """Landmarks that all lie in one place give a map of numbers."""
    assert np.isfinite(aligning(np.zeros((5, 2), np.float32), UPRIGHT)).all()
