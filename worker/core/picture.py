"""A frame's picture in the decoder's format, converted to RGB lazily: only the part and resolution a stage reads.

Most decoders output one luma plane and two chroma planes with a quarter of its samples (4:2:0).  Converting a whole
frame takes longer than any stage's use of it: the detector reads a small copy, a crop reads a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from worker.core.tones import HDR_TABLES

Image = npt.NDArray[np.uint8]

# The weights of red and blue in luma, by H.273's matrix coefficients code.
LUMA_SHARES: dict[int, tuple[float, float]] = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
}
LUMA_IS_GREY = 5  # BT.601, by which OpenCV weighs the colours of grey


@dataclass(frozen=True)
class Colours:
    """The colour encoding of luma and chroma samples.

    matrix: a key of `LUMA_SHARES`.  full_range: 0..255 instead of 16..235.  transfer: a key of `HDR_TABLES`, else 0.
    Raises: ValueError for an unknown matrix or transfer.
    """

    matrix: int
    full_range: bool
    transfer: int = 0

    def __post_init__(self) -> None:
        if self.matrix not in LUMA_SHARES or (self.transfer and self.transfer not in HDR_TABLES):
            raise ValueError("unknown colours")


class Picture:
    """A picture, or a part of one, upright, in square pixels.

    `shape` is (H, W, 3).  `planes`: luma (H, W) and two chroma planes of half the height and width, rounded up
    (4:2:0), uint8; empty if the picture is RGB.
    """

    def __init__(self, planes: Sequence[Image], colours: Colours | None, rgb: Image | None = None) -> None:
        self.planes, self.colours = tuple(planes), colours
        self._whole = rgb
        height, width = self.planes[0].shape if rgb is None else rgb.shape[:2]
        self.shape = (height, width, 3)

    @classmethod
    def of(cls, rgb: Image) -> Picture:
        """From an RGB image (H, W, 3) uint8."""
        return cls((), None, rgb)

    @classmethod
    def in_samples(cls, samples: Image, height: int, width: int, colours: Colours | None) -> Picture:
        """From contiguous samples (N,) uint8: interleaved RGB if `colours` is None, else plane after plane.

        Raises: ValueError if N does not fit the size.
        """
        if samples.size != sample_count(height, width, rgb=colours is None):
            raise ValueError("the samples do not fit the size")
        if colours is None:
            return cls.of(samples.reshape(height, width, 3))
        luma, low, narrow = height * width, half(height), half(width)
        chroma = samples[luma:].reshape(2, low, narrow)
        return cls((samples[:luma].reshape(height, width), chroma[0], chroma[1]), colours)

    @property
    def first(self) -> Image:
        """The luma plane, or the RGB image."""
        return self.planes[0] if self._whole is None or self.planes else self._whole

    @property
    def nbytes(self) -> int:
        """Bytes of the samples, without the cached conversion."""
        return sum(plane.nbytes for plane in self.planes) or self.first.nbytes

    def whole(self) -> Image:
        """The whole picture, (H, W, 3) uint8 RGB; cached."""
        if self._whole is None:
            height, width, _ = self.shape
            luma, *chroma = self.planes
            large = [cv2.resize(plane, None, fx=2, fy=2)[:height, :width] for plane in chroma]
            self._whole = self._rgb(luma, *large)
        return self._whole

    def part(self, top: int, bottom: int, left: int, right: int) -> Picture:
        """A part, without a copy; top and left must be even.  Edges in pixels."""
        rows, columns = slice(top, bottom), slice(left, right)
        if not self.planes:
            return Picture.of(self.whole()[rows, columns])
        luma, *chroma = self.planes
        low, narrow = slice(top // 2, half(bottom)), slice(left // 2, half(right))
        return Picture((luma[rows, columns], *(plane[low, narrow] for plane in chroma)), self.colours)

    def sampled(self, width: int, height: int) -> Image:
        """The whole picture resized bilinearly: (height, width, 3) uint8 RGB."""
        if not self.planes:
            return _resized(self.whole(), width, height)
        return self._rgb(*(_resized(plane, width, height) for plane in self.planes))

    def halved(self, times: int) -> Picture:
        """Half the height and width so many times, by the mean of 2x2 samples; odd sides repeat their last sample."""
        if not self.planes:
            return Picture.of(_halved(self.whole(), times, 2**times))
        luma, *chroma = self.planes  # luma is padded so that two of its samples share one of chroma
        small = (_halved(luma, times, 2 ** (times + 1)), *(_halved(plane, times, 2**times) for plane in chroma))
        return Picture(small, self.colours)

    def resized(self, width: int, height: int) -> Image:
        """The whole picture resized by area mean: (height, width, 3) uint8 RGB."""
        if not self.planes:
            return _by_area(self.whole(), width, height)
        return self._rgb(*(_by_area(plane, width, height) for plane in self.planes))

    def warped(self, how: npt.NDArray[np.floating], width: int, height: int, border: int, *, finer: int = 1) -> Image:
        """Like `cv2.warpAffine`: (height, width, 3) uint8 RGB.  how: 2x3, source to destination pixel centres.

        finer: supersampling, finer x finer samples a pixel of luma, half as many each way of chroma.
        """
        if not self.planes:
            return _warped(self.whole(), how, width, height, border, finer)
        # The centre of a chroma sample lies between the centres of its four pixels.
        of_chroma = np.column_stack([2 * how[:, :2], how[:, 2] + how[:, :2].sum(axis=1) / 2])
        luma, *chroma = self.planes
        shown = (
            _warped(luma, how, width, height, border, finer),
            *(_warped(p, of_chroma, width, height, border, max(round(finer / 2), 1)) for p in chroma),
        )
        return self._rgb(*shown)

    def warped_grey(
        self, how: npt.NDArray[np.floating], width: int, height: int, border: int, *, finer: int = 1
    ) -> Image:
        """Like `warped`, in OpenCV's grey: (height, width) uint8.

        Where both weigh colours alike that is luma alone, which RGB's limits do not clip."""
        if self.colours is None or self.colours.matrix != LUMA_IS_GREY or self.colours.transfer:
            return np.asarray(cv2.cvtColor(self.warped(how, width, height, border, finer=finer), cv2.COLOR_RGB2GRAY))
        luma = _warped(self.planes[0], how, width, height, border, finer)
        return luma if self.colours.full_range else np.asarray(cv2.LUT(luma, _WIDENED), np.uint8)

    def _rgb(self, luma: npt.ArrayLike, blue: npt.ArrayLike, red: npt.ArrayLike) -> Image:
        if self.colours is None:
            raise TypeError("an RGB picture has no planes")
        merged = cv2.merge([np.asarray(plane, np.uint8) for plane in (luma, blue, red)])
        rgb = cv2.transform(merged, _to_rgb(self.colours.matrix, self.colours.full_range))
        if self.colours.transfer:
            cv2.LUT(rgb, HDR_TABLES[self.colours.transfer], dst=rgb)
        return np.asarray(rgb, np.uint8)


Shown = Picture | Image  # the input of a stage: a frame's picture, or RGB pixels (H, W, 3)


def sampled(shown: Shown, width: int, height: int) -> Image:
    """As `Picture.sampled`."""
    return shown.sampled(width, height) if isinstance(shown, Picture) else _resized(shown, width, height)


def halved(shown: Shown, times: int) -> Shown:
    """As `Picture.halved`."""
    return shown.halved(times) if isinstance(shown, Picture) else _halved(shown, times, 2**times)


def resized(shown: Shown, width: int, height: int) -> Image:
    """As `Picture.resized`."""
    return shown.resized(width, height) if isinstance(shown, Picture) else _by_area(shown, width, height)


def warped(
    shown: Shown, how: npt.NDArray[np.floating], width: int, height: int, border: int, *, finer: int = 1
) -> Image:
    """As `Picture.warped`."""
    if isinstance(shown, Picture):
        return shown.warped(how, width, height, border, finer=finer)
    return _warped(shown, how, width, height, border, finer)


def warped_grey(
    shown: Shown, how: npt.NDArray[np.floating], width: int, height: int, border: int, *, finer: int = 1
) -> Image:
    """As `Picture.warped_grey`."""
    picture = shown if isinstance(shown, Picture) else Picture.of(shown)
    return picture.warped_grey(how, width, height, border, finer=finer)


def part(shown: Shown, top: int, bottom: int, left: int, right: int) -> Shown:
    """As `Picture.part`."""
    return shown.part(top, bottom, left, right) if isinstance(shown, Picture) else shown[top:bottom, left:right]


def whole(shown: Shown) -> Image:
    """The whole picture, (H, W, 3) uint8 RGB."""
    return shown.whole() if isinstance(shown, Picture) else shown


def half(length: int) -> int:
    """The number of chroma samples along a side of `length` luma samples."""
    return (length + 1) // 2


def sample_count(height: int, width: int, *, rgb: bool) -> int:
    """The number of samples in a picture of that size.  Raises: ValueError if a side is not positive."""
    if height <= 0 or width <= 0:
        raise ValueError("a picture without pixels")
    return 3 * height * width if rgb else height * width + 2 * half(height) * half(width)


def _resized(plane: Image, width: int, height: int) -> Image:
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _halved(plane: Image, times: int, multiple: int) -> Image:
    below, beside = (-side % multiple for side in plane.shape[:2])
    if below or beside:
        plane = np.asarray(cv2.copyMakeBorder(plane, 0, below, 0, beside, cv2.BORDER_REPLICATE), np.uint8)
    for _ in range(times):
        plane = np.asarray(cv2.resize(plane, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
    return plane


def _by_area(plane: Image, width: int, height: int) -> Image:
    smaller = plane.shape[0] > height or plane.shape[1] > width
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(plane, (width, height), interpolation=interpolation), np.uint8)


def _warped(plane: Image, how: npt.NDArray[np.floating], width: int, height: int, border: int, finer: int) -> Image:
    if finer > 1:
        how = how * finer
        how[:, 2] += (finer - 1) / 2  # coordinates refer to pixel centres
    size = width * finer, height * finer
    shown = cv2.warpAffine(plane, how, size, flags=cv2.INTER_LINEAR, borderMode=border)
    if finer > 1:
        shown = cv2.resize(shown, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(shown, np.uint8)


# From luma in 16..235 to 0..255.
_WIDENED = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


@lru_cache(maxsize=16)
def _to_rgb(matrix: int, full_range: bool) -> npt.NDArray[np.float32]:
    """(3, 4) matrix from (Y, Cb, Cr, 1) to RGB.  Source: H.273, section 8.3."""
    red, blue = LUMA_SHARES[matrix]
    green = 1 - red - blue
    luma, black, chroma = (1.0, 0, 1.0) if full_range else (255 / 219, 16, 255 / 224)
    columns = np.array(
        [
            [luma, 0, 2 * (1 - red) * chroma],
            [luma, -2 * blue * (1 - blue) / green * chroma, -2 * red * (1 - red) / green * chroma],
            [luma, 2 * (1 - blue) * chroma, 0],
        ]
    )
    offset = -columns @ np.array([black, 128, 128])
    return np.asarray(np.column_stack([columns, offset]), np.float32)
