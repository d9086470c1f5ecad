"""Crops: the transform is the right one, and colours keep their order."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from worker.core.picture import Colours, Picture, Shown, half, whole
from worker.crops import CropSpec, crop_aligned, crop_whole, sharpness

TEMPLATE = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
RGB = CropSpec(48, "rgb", TEMPLATE)
GREY = CropSpec(48, "grey", TEMPLATE)


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)


@pytest.mark.parametrize("size_px", [24, 48, 130, 400])
@pytest.mark.parametrize("degrees", [0, 30])
def test_aligned_crop_puts_landmarks_at_the_template(size_px: int, degrees: float) -> None:
    """A dot drawn at a landmark is found at the template's place, whatever the face's size and turn."""
    scale = size_px / 48
    turn = cv2.getRotationMatrix2D((24, 24), degrees, scale)
    turn[:, 2] += 300 - 24
    landmarks = apply(np.asarray(turn), TEMPLATE * 48)
    for place, landmark in enumerate(landmarks):
        picture = np.zeros((600, 600, 3), np.uint8)
        x, y = (float(v) for v in landmark)
        centre = (round(x * 16), round(y * 16))
        cv2.circle(picture, centre, round(max(2.5 * scale, 3.5) * 16), (255, 255, 255), -1, cv2.LINE_AA, shift=4)
        crop = crop_aligned(picture, landmarks, GREY)[:, :, 0].astype(float)
        rows, columns = np.mgrid[:48, :48]
        found = np.array([(columns * crop).sum(), (rows * crop).sum()]) / crop.sum()
        assert np.abs(found - TEMPLATE[place] * 48).max() < 0.2


@pytest.mark.parametrize("spec", [RGB, GREY])
def test_crops_have_the_size_and_channels_of_the_spec(spec: CropSpec) -> None:
    """Every way to cut gives (size, size, C) uint8."""
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    for crop in (crop_aligned(picture, TEMPLATE * 40 + 20, spec), crop_whole(picture, spec)):
        assert crop.shape == (48, 48, 3 if spec.colour == "rgb" else 1)
        assert crop.dtype == np.uint8


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_channels_keep_their_order(channel: int) -> None:
    """A red picture gives a red crop; grey weighs the channels as RGB, so blue is darker than red, red than green."""
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[..., channel] = 255
    for crop in (crop_aligned(picture, TEMPLATE * 40, RGB), crop_whole(picture, RGB)):
        assert (crop[..., channel] == 255).all()
        assert crop.sum() == 255 * 48 * 48
    assert (crop_whole(picture, GREY) == (76, 150, 29)[channel]).all()


def test_whole_frame_of_the_right_size_is_untouched() -> None:
    """A frame that already has the crop's size comes back as it is."""
    picture = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    np.testing.assert_array_equal(crop_whole(picture, RGB), picture)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("size_px", [150, 333, 700, 1501])
def test_a_large_face_is_averaged(size_px: int, planar: bool) -> None:
    """A crop of a picture of single random pixels is as flat as the mean over each of its cells."""
    rng = np.random.default_rng(size_px)
    side = size_px + 31
    picture: Shown
    if planar:
        luma, *chroma = (rng.integers(16, 236, (n, n), np.uint8) for n in (side, half(side), half(side)))
        picture = Picture([luma, *(plane // 16 + 121 for plane in chroma)], Colours(1, full_range=False))
    else:
        picture = rng.integers(0, 256, (side, side, 3), np.uint8)
    crop = crop_aligned(picture, TEMPLATE * size_px + 15, GREY).astype(float)
    shown = cv2.cvtColor(whole(picture), cv2.COLOR_RGB2GRAY)[15 : 15 + size_px, 15 : 15 + size_px]
    cells = cv2.resize(shown, (48, 48), interpolation=cv2.INTER_AREA).astype(float)
    assert crop.std() < 1.5 * cells.std()
    assert crop.mean() == pytest.approx(cells.mean(), abs=1)


def test_beyond_the_frame_the_border_is_repeated() -> None:
    """A face at the edge is not given black pixels."""
    picture = np.full((40, 40, 3), 200, np.uint8)
    assert (crop_aligned(picture, TEMPLATE * 40 - 20, RGB) == 200).all()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("place", [20, 30_000, 39_990])
def test_a_frame_longer_than_opencv_warps(axis: int, place: int) -> None:
    """A face is cut out of it as out of its surroundings alone, also at its ends."""
    rng = np.random.default_rng(place)
    frame = rng.integers(0, 256, (60, 40_000, 3), np.uint8)
    landmarks = TEMPLATE * 36 + np.array([place - 18, 7], np.float32)
    start = min(max(place - 200, 0), 40_000 - 400)
    near, near_landmarks = frame[:, start : start + 400], landmarks - np.array([start, 0], np.float32)
    if axis == 0:
        frame, near = frame.transpose(1, 0, 2).copy(), near.transpose(1, 0, 2).copy()
        landmarks, near_landmarks = landmarks[:, ::-1].copy(), near_landmarks[:, ::-1].copy()
    cut = [crop_aligned(*given, RGB).astype(int) for given in ((frame, landmarks), (near, near_landmarks))]
    off = np.abs(cut[0] - cut[1])
    assert off.max() <= 40  # the position's last bits are not the same so far from the origin
    assert off.mean() < 1


def test_sharpness_falls_with_blur_and_not_with_light() -> None:
    """A blurred crop has less fine detail; brightness and contrast hardly count, an even crop has none."""
    crop = np.asarray(np.random.default_rng(0).integers(60, 200, (48, 48, 1)), np.uint8)
    crop = np.asarray(cv2.GaussianBlur(crop, (0, 0), 1), np.uint8)[:, :, None]
    values = [sharpness(crop)] + [
        sharpness(np.asarray(cv2.GaussianBlur(crop, (0, 0), deviation), np.uint8)[:, :, None])
        for deviation in (1, 2, 4)
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] > 2 * values[2]
    darker = np.asarray(40 + crop * 0.6, np.uint8)
    assert sharpness(darker) == pytest.approx(values[0], rel=0.15)
    assert sharpness(np.repeat(crop, 3, axis=2)) == pytest.approx(values[0], abs=0.02)
    assert sharpness(np.full((48, 48, 1), 90, np.uint8)) == 0


def test_sharpness_is_the_same_for_larger_crops() -> None:
    """A bundle with larger crops tells of the same face what one with crops of 48 pixels does."""
    frame = np.random.default_rng(3).integers(0, 256, (40, 40, 3), np.uint8)
    frame = np.asarray(cv2.resize(frame, (400, 400), interpolation=cv2.INTER_CUBIC), np.uint8)
    landmarks = TEMPLATE * 300 + 50
    values = [sharpness(crop_aligned(frame, landmarks, CropSpec(size, "grey", TEMPLATE))) for size in (48, 112)]
    assert values[0] > 0.2
    assert values[1] == pytest.approx(values[0], rel=0.1)
