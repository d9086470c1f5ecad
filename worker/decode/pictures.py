"""From a decoded frame to the picture that a player shows: RGB, in square pixels, the right way up, SDR.

Colours are taken as they are tagged; untagged ones as players do, BT.709 from 720 lines on and BT.601 below.
Source: ITU-T H.273 (the numbers of matrices, ranges and transfer functions), ISO/IEC 14496-12 (the display matrix).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from worker.core.records import Image
from worker.decode import Canvas, DecodeLimits
from worker.decode.tones import HDR_TABLES

HD_LINES = 720
# Of H.273's matrix coefficients, the nearest that swscale has; RGB and what is not named there needs none.
UNSPECIFIED = frozenset({2, 3})
MATRICES = {
    1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.SMPTE170M,
    7: Colorspace.SMPTE240M, 9: Colorspace.BT2020, 10: Colorspace.BT2020, 11: Colorspace.ITU709,
    12: Colorspace.ITU709, 13: Colorspace.BT2020, 14: Colorspace.BT2020,
}  # fmt: skip
RANGES = {1: ColorRange.MPEG, 2: ColorRange.JPEG}
MATRIX = struct.Struct("=9i")
WIDEST_PIXEL = 16  # a pixel aspect beyond it, either way, is a mistake
# How far from its axis a display matrix may point and still be along it.
ASKEW = 0.02


@dataclass(frozen=True)
class Turn:
    """How a stored picture is shown: first transposed, then flipped."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def apply(self, image: Image) -> Image:
        """The picture (H, W, C), turned."""
        if self.transpose:
            image = cv2.transpose(image)  # type: ignore[assignment]
        if self.flip_x or self.flip_y:
            code = -1 if self.flip_x and self.flip_y else int(self.flip_x)
            image = cv2.flip(image, code)  # type: ignore[assignment]
        return image


UPRIGHT = Turn()


def turn(frame: VideoFrame) -> Turn:
    """What the frame's display matrix says; one at an odd angle says nothing, as in browsers."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(data, SideData) or data.buffer_size < MATRIX.size:
        return UPRIGHT
    a, b, _, c, d, *_ = MATRIX.unpack_from(data)
    along, across = min(abs(a), abs(d)), min(abs(b), abs(c))
    if along and max(abs(b), abs(c)) <= ASKEW * along:
        return Turn(False, a < 0, d < 0)
    if across and max(abs(a), abs(d)) <= ASKEW * across:
        return Turn(True, c < 0, b < 0)
    return UPRIGHT


def square_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Width and height in square pixels: one of them grows, as in browsers."""
    if not aspect or aspect <= 0 or not 1 / WIDEST_PIXEL <= aspect <= WIDEST_PIXEL:
        return width, height
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def shown_size(width: int, height: int, aspect: Fraction | None, turned: Turn) -> tuple[int, int]:
    """As `square_size`, after the turn."""
    width, height = square_size(width, height, aspect)
    return (height, width) if turned.transpose else (width, height)


class PictureMaker:
    """Makes pictures of one input's frames.  canvas: makes the arrays that they are put into."""

    def __init__(self, limits: DecodeLimits, canvas: Canvas) -> None:
        self._limits = limits
        self._canvas = canvas
        self._reformatter = VideoReformatter()

    def picture(self, frame: VideoFrame, aspect: Fraction | None) -> Image | None:
        """(H, W, 3) uint8 RGB, None if it cannot be converted.  Raises: LimitExceededError, MemoryError."""
        width, height = square_size(frame.width, frame.height, aspect)
        self._limits.check_pixels(width, height)
        try:
            rgb = self._reformatter.reformat(
                frame,
                width=width,
                height=height,
                format="rgb24",
                src_colorspace=_matrix(frame),
                dst_colorspace=_matrix(frame),
                src_color_range=_range(frame),
                dst_color_range=ColorRange.JPEG,
                interpolation=Interpolation.BILINEAR,
                threads=1,
            )
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError):
            return None
        plane = rgb.planes[0]
        stored: Image = np.ndarray((height, width, 3), np.uint8, memoryview(plane), 0, (plane.line_size, 3, 1))
        shown = turn(frame).apply(stored)
        image = self._canvas(shown.shape[0], shown.shape[1])
        table = HDR_TABLES.get(frame.color_trc)
        if table is None:
            np.copyto(image, shown)
        else:
            cv2.LUT(shown, table, dst=image)
        return image


def _matrix(frame: VideoFrame) -> Colorspace:
    untagged = Colorspace.ITU709 if frame.height >= HD_LINES else Colorspace.ITU601
    return MATRICES.get(frame.colorspace, untagged)


def _range(frame: VideoFrame) -> ColorRange:
    if frame.format.name.startswith(("yuvj", "gray", "rgb", "bgr", "gbr", "pal8", "mono", "ya", "argb", "abgr", "0")):
        return ColorRange.JPEG if frame.color_range != ColorRange.MPEG else ColorRange.MPEG
    return RANGES.get(frame.color_range, ColorRange.MPEG)
