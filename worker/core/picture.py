"""A frame's picture as its decoder has it, made RGB only where and as finely as somebody looks.

Most decoders give a plane of luma and two of chroma with a quarter of its samples.  Making all of it RGB takes longer
than any stage looks at it: the detector wants it small, a crop wants a part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from worker.core.tones import HDR_TABLES

Image = npt.NDArray[np.uint8]

# Luma's shares of red and blue, by H.273's number of the matrix.
LUMA_SHARES: dict[int, tuple[float, float]] = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
}
MARGIN = 1  # samples of chroma beside a part, between which its edge is interpolated


@dataclass(frozen=True)
class Colours:
    """What the samples of luma and chroma mean.

    matrix: a key of `LUMA_SHARES`.  full_range: 0..255 instead of 16..235.  transfer: a key of `HDR_TABLES`, else 0.
    Raises: ValueError if they are none of these.
    """

    matrix: int
    full_range: bool
    transfer: int = 0

    def __post_init__(self) -> None:
        if self.matrix not in LUMA_SHARES or (self.transfer and self.transfer not in HDR_TABLES):
            raise ValueError("unknown colours")


class Picture:
    """One picture, upright, in square pixels.

    data: (N,) uint8, the samples: RGB where colours is None, else luma (H, W) and two chroma planes of half the height
    and width, rounded up (4:2:0).  `shape` is (H, W, 3).  `picture[top:bottom, left:right]` is that part as RGB.
    """

    def __init__(self, data: Image, height: int, width: int, colours: Colours | None = None) -> None:
        if data.size != sample_count(height, width, rgb=colours is None):
            raise ValueError("the samples do not fit the size")
        self.data, self.colours = data, colours
        self.shape = (height, width, 3)
        self._whole = data.reshape(self.shape) if colours is None else None

    @classmethod
    def of(cls, rgb: Image) -> Picture:
        """Of an RGB image (H, W, 3) uint8."""
        return cls(np.ascontiguousarray(rgb).reshape(-1), *rgb.shape[:2])

    @property
    def nbytes(self) -> int:
        """Bytes of memory, without what was converted."""
        return self.data.nbytes

    @property
    def planes(self) -> tuple[Image, Image, Image]:
        """Luma (H, W) and the two chroma planes, where it is not RGB."""
        height, width, _ = self.shape
        low, narrow = half(height), half(width)
        luma, chroma = height * width, low * narrow
        return (
            self.data[:luma].reshape(height, width),
            self.data[luma : luma + chroma].reshape(low, narrow),
            self.data[luma + chroma :].reshape(low, narrow),
        )

    def whole(self) -> Image:
        """All of it, (H, W, 3) uint8 RGB; kept."""
        if self._whole is None:
            height, width, _ = self.shape
            self._whole = self[:height, :width]
        return self._whole

    def __getitem__(self, part: tuple[slice, slice]) -> Image:
        """A part: `[top:bottom, left:right]`, both whole numbers from 0 on -> (h, w, 3) uint8 RGB."""
        if self._whole is not None:
            return self._whole[part]
        top, bottom, _ = part[0].indices(self.shape[0])
        left, right, _ = part[1].indices(self.shape[1])
        luma, *chroma = self.planes
        if bottom <= top or right <= left:
            return np.empty((0, 0, 3), np.uint8)
        low, narrow = chroma[0].shape
        first_row, first_column = max(top // 2 - MARGIN, 0), max(left // 2 - MARGIN, 0)
        rows = slice(first_row, min(half(bottom) + MARGIN, low))
        columns = slice(first_column, min(half(right) + MARGIN, narrow))
        y0, x0 = top - 2 * first_row, left - 2 * first_column
        large = [
            cv2.resize(plane[rows, columns], None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)[
                y0 : y0 + bottom - top, x0 : x0 + right - left
            ]
            for plane in chroma
        ]
        return self._rgb(luma[top:bottom, left:right], *large)

    def sampled(self, width: int, height: int) -> Image:
        """All of it on so many pixels, by interpolation: (height, width, 3) uint8 RGB."""
        if self._whole is not None:
            return _resized(self._whole, width, height)
        return self._rgb(*(_resized(plane, width, height) for plane in self.planes))

    def _rgb(self, luma: npt.ArrayLike, blue: npt.ArrayLike, red: npt.ArrayLike) -> Image:
        if self.colours is None:
            raise TypeError("an RGB picture has no planes")
        merged = cv2.merge([np.asarray(plane, np.uint8) for plane in (luma, blue, red)])
        rgb = cv2.transform(merged, _to_rgb(self.colours.matrix, self.colours.full_range))
        if self.colours.transfer:
            cv2.LUT(rgb, HDR_TABLES[self.colours.transfer], dst=rgb)
        return np.asarray(rgb, np.uint8)


Shown = Picture | Image  # what a stage looks at: a frame's picture, or RGB pixels (H, W, 3)


def whole(shown: Shown) -> Image:
    """All of it, (H, W, 3) uint8 RGB."""
    return shown.whole() if isinstance(shown, Picture) else shown


def sampled(shown: Shown, width: int, height: int) -> Image:
    """All of it on so many pixels, by interpolation: (height, width, 3) uint8 RGB."""
    return shown.sampled(width, height) if isinstance(shown, Picture) else _resized(shown, width, height)


def half(length: int) -> int:
    """Samples of chroma beside so many of luma."""
    return (length + 1) // 2


def sample_count(height: int, width: int, *, rgb: bool) -> int:
    """Samples of a picture of that size.  Raises: ValueError if it has none."""
    if height <= 0 or width <= 0:
        raise ValueError("a picture without pixels")
    return 3 * height * width if rgb else height * width + 2 * half(height) * half(width)


def _resized(plane: Image, width: int, height: int) -> Image:
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


@lru_cache(maxsize=16)
def _to_rgb(matrix: int, full_range: bool) -> npt.NDArray[np.float32]:
    """(3, 4): what takes (Y, Cb, Cr, 1) to RGB.  Source: H.273, section 8.3."""
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
