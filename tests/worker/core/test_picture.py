"""Pictures: whatever part or size of one is asked for is that of the whole, and means the same colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core.picture import LUMA_IS_GREY, LUMA_SHARES, Colours, Picture, half, sample_count
from worker.core.records import DecodedFrame
from worker.core.tones import HDR_TABLES, HLG, PQ

SIDES = st.integers(1, 61)
# Ranges of luma and chroma without colours that RGB cannot hold, and the planes' sizes.
GENTLE = ((80, 170, (160, 120)), (118, 138, (80, 60)), (118, 138, (80, 60)))


def planes(height: int, width: int, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Samples of smooth noise."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, sample_count(height, width, rgb=False), np.uint8)


@settings(max_examples=100, deadline=None)
@given(height=SIDES, width=SIDES, data=st.data())
def test_a_part_is_that_of_the_whole(height: int, width: int, data: st.DataObject) -> None:
    """At even places, of odd sizes too; but for its edges, where what lies beside it is not seen."""
    picture = Picture.in_samples(planes(height, width), height, width, Colours(1, False))
    top, left = (2 * data.draw(st.integers(0, (side - 1) // 2)) for side in (height, width))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    part = picture.part(top, bottom, left, right)
    assert part.shape == (bottom - top, right - left, 3)
    inside = np.s_[2 * (top > 0) : bottom - top - 2, 2 * (left > 0) : right - left - 2]
    assert np.array_equal(part.whole()[inside], picture.whole()[top:bottom, left:right][inside])
    assert picture.whole().shape == (height, width, 3)


@pytest.mark.parametrize("degrees", [0, 17, 180])
@pytest.mark.parametrize("scale", [0.5, 1, 3])
def test_a_view_is_that_of_the_whole(degrees: float, scale: float) -> None:
    """Warping planes shows what warping the whole as RGB shows, but for rounding and how chroma is interpolated."""
    rng = np.random.default_rng(1)
    height, width = 120, 160
    smooth = [cv2.resize(rng.integers(60, 190, (6, 8), np.uint8), size) for size in ((160, 120), (80, 60), (80, 60))]
    samples = np.concatenate([np.asarray(plane, np.uint8).ravel() for plane in smooth])
    picture = Picture.in_samples(samples, height, width, Colours(5, False))
    how = np.asarray(cv2.getRotationMatrix2D((80, 60), degrees, scale), np.float64)
    view = picture.warped(how, 90, 70, cv2.BORDER_REPLICATE)
    wanted = cv2.warpAffine(picture.whole(), how, (90, 70), borderMode=cv2.BORDER_REPLICATE)
    assert view.shape == (70, 90, 3)
    assert np.abs(view.astype(int) - wanted.astype(int)).mean() < 1.5


@pytest.mark.parametrize("matrix", LUMA_SHARES)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("finer", [1, 2])
def test_a_grey_view_is_the_grey_of_the_view(matrix: int, full_range: bool, finer: int) -> None:
    """Luma alone where that is the same but for rounding; colours without a grey of their own, elsewhere."""
    rng = np.random.default_rng(2)
    smooth = [cv2.resize(rng.integers(low, high, (6, 8), np.uint8), size) for low, high, size in GENTLE]
    samples = np.concatenate([np.asarray(plane, np.uint8).ravel() for plane in smooth])
    picture = Picture.in_samples(samples, 120, 160, Colours(matrix, full_range))
    how = np.asarray(cv2.getRotationMatrix2D((80, 60), 17, 0.6), np.float64)
    grey = picture.warped_grey(how, 90, 70, cv2.BORDER_REPLICATE, finer=finer)
    wanted = cv2.cvtColor(picture.warped(how, 90, 70, cv2.BORDER_REPLICATE, finer=finer), cv2.COLOR_RGB2GRAY)
    assert grey.shape == (70, 90)
    assert np.abs(grey.astype(int) - wanted.astype(int)).max() <= (1 if matrix == LUMA_IS_GREY else 0)


def test_a_grey_view_of_hdr_or_rgb_is_the_grey_of_the_view() -> None:
    """Whatever the matrix: HDR's tables apply to colours, and RGB has no luma."""
    samples = np.random.default_rng(3).integers(60, 190, 120 * 160 * 3 // 2, np.uint8)
    hdr = Picture.in_samples(samples, 120, 160, Colours(LUMA_IS_GREY, False, min(HDR_TABLES)))
    how = np.eye(2, 3)
    for picture in (hdr, Picture.of(hdr.whole())):
        wanted = cv2.cvtColor(picture.warped(how, 90, 70, cv2.BORDER_REPLICATE), cv2.COLOR_RGB2GRAY)
        np.testing.assert_array_equal(picture.warped_grey(how, 90, 70, cv2.BORDER_REPLICATE), wanted)


@pytest.mark.parametrize("matrix", LUMA_SHARES)
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_mean_what_the_standard_says(matrix: int, full_range: bool) -> None:
    """Planes made of RGB colours by H.273's formulas give these colours again, within rounding."""
    red_share, blue_share = LUMA_SHARES[matrix]
    for rgb in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 150, 120)):
        r, g, b = (value / 255 for value in rgb)
        luma = red_share * r + (1 - red_share - blue_share) * g + blue_share * b
        blue, red = (b - luma) / (2 * (1 - blue_share)), (r - luma) / (2 * (1 - red_share))
        scale, black, chroma = (255, 0, 255) if full_range else (219, 16, 224)
        values = [scale * luma + black, chroma * blue + 128, chroma * red + 128]
        y, u, v = (min(max(round(value), 0), 255) for value in values)
        data = np.repeat(np.array([y, u, v], np.uint8), [16, 4, 4])
        found = Picture.in_samples(data, 4, 4, Colours(matrix, full_range)).whole()
        assert np.abs(found.astype(int) - rgb).max() <= 3, rgb


def test_sampling_a_small_picture_of_all_of_it() -> None:
    """The same picture, smaller: close to the whole, made small."""
    height, width = 90, 160
    y = np.tile(np.linspace(16, 235, width), (height, 1))
    chroma = np.tile(np.linspace(90, 160, half(width)), (half(height), 1))
    data = np.concatenate([y.ravel(), chroma.ravel(), chroma[:, ::-1].ravel()]).astype(np.uint8)
    picture = Picture.in_samples(data, height, width, Colours(5, False))
    small = picture.sampled(40, 30)
    assert small.shape == (30, 40, 3)
    centres = picture.whole()[1::3, 2::4].astype(int)
    assert np.abs(small.astype(int) - centres).mean() < 3


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_is_shown_as_sdr(transfer: int) -> None:
    """Greys go through the table, in parts and in small pictures as in the whole."""
    data = np.repeat(np.array([120, 128], np.uint8), [64, 32])
    picture = Picture.in_samples(data, 8, 8, Colours(9, True, transfer))
    assert (picture.sampled(4, 4) == HDR_TABLES[transfer][120]).all()
    assert (picture.part(2, 5, 2, 7).whole() == HDR_TABLES[transfer][120]).all()
    assert (picture.whole() == HDR_TABLES[transfer][120]).all()


def test_rgb_is_a_picture_too() -> None:
    """An image as a frame's picture is itself, and so are its parts."""
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    frame = DecodedFrame(0, 0.0, image)
    assert frame.image is not None
    assert frame.picture is not None
    assert np.array_equal(frame.image, image)
    assert np.array_equal(frame.picture.part(2, 5, 0, 6).whole(), image[2:5, 0:6])
    assert frame.picture.nbytes == image.nbytes
    assert DecodedFrame(0, 0.0, None).image is None


def test_what_cannot_be_is_refused() -> None:
    """Samples that do not fit the size, and colours that are none."""
    with pytest.raises(ValueError, match="fit"):
        Picture.in_samples(np.zeros(10, np.uint8), 4, 4, None)
    with pytest.raises(ValueError, match="pixels"):
        sample_count(0, 5, rgb=True)
    for colours in ((77, False, 0), (1, False, 99)):
        with pytest.raises(ValueError, match="colours"):
            Colours(*colours)
