"""From a decoded frame to the picture that a player shows: square pixels, upright, with known colours.

Colour tags are used as they are; untagged video is handled as in players, BT.709 from 720 lines on and BT.601 below.
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
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from worker.core.picture import Colours, Image, Picture, sample_count
from worker.core.tones import HDR_TABLES, PQ
from worker.decode import Canvas, DecodeLimits

HD_LINES = 720
# H.273's matrix coefficients -> the nearest supported ones; others depend on the size, see `_matrix`.
MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9, 11: 1, 12: 1, 13: 9, 14: 9}
SWSCALE = {
    1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 7: Colorspace.SMPTE240M, 9: Colorspace.BT2020,
}  # fmt: skip
# 4:2:0 formats keep their planes, in eight bits.  Others are converted to RGB.
HALVED = ("yuv420p", "yuvj420p", "nv12", "nv21", "p010", "p012")
SAME_SAMPLES = {"yuv420p": {"yuv420p", "yuvj420p"}, "rgb24": {"rgb24"}}
FULL_UNLESS_TAGGED = ("yuvj", "gray", "rgb", "bgr", "gbr", "pal8", "mono", "ya", "argb", "abgr", "0")
MATRIX = struct.Struct("=9i")
UNKNOWN = (0, 2)  # H.273: reserved, unspecified
DOLBY_TAGS = ("dvh1", "dvhe")  # HEVC without a compatible base layer
NO_COLOUR = 128  # neutral chroma
WIDEST_PIXEL = 16  # pixel aspect ratios beyond it, or its inverse, are invalid
# Tolerance of a display matrix around a multiple of 90 degrees.
ASKEW = 0.02


@dataclass(frozen=True)
class Turn:
    """The orientation of a stored picture: transposed first, then flipped."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def apply(self, image: Image) -> Image:
        """Apply the orientation to a picture (H, W, C)."""
        if self.transpose:
            image = cv2.transpose(image)  # type: ignore[assignment]
        if self.flip_x or self.flip_y:
            code = -1 if self.flip_x and self.flip_y else int(self.flip_x)
            image = cv2.flip(image, code)  # type: ignore[assignment]
        return image


UPRIGHT = Turn()


def turn(frame: VideoFrame) -> Turn:
    """The orientation of the frame's display matrix; other angles than multiples of 90 degrees are ignored, as in
    browsers."""
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


def is_dolby_alone(frame: VideoFrame, codec_tag: str) -> bool:
    """Whether it is Dolby Vision profile 5, which has no compatible base layer and no colour tags."""
    dolby = codec_tag in DOLBY_TAGS or frame.side_data.get("DOVI_RPU_BUFFER") is not None
    return dolby and frame.color_trc in UNKNOWN and frame.color_range == ColorRange.JPEG


def square_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Width and height in square pixels, by enlarging one of them, as in browsers."""
    if not aspect or aspect <= 0 or not 1 / WIDEST_PIXEL <= aspect <= WIDEST_PIXEL:
        return width, height
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def shown_size(width: int, height: int, aspect: Fraction | None, turned: Turn) -> tuple[int, int]:
    """As `square_size`, after the orientation is applied."""
    width, height = square_size(width, height, aspect)
    return (height, width) if turned.transpose else (width, height)


class PictureMaker:
    """Makes pictures of one input's frames.  canvas: allocates the arrays for their samples.

    grey: interpret luma as PQ and drop chroma, whose encoding is unknown; see `is_dolby_alone`.
    """

    def __init__(self, limits: DecodeLimits, canvas: Canvas) -> None:
        self._limits = limits
        self._canvas = canvas
        self._reformatter = VideoReformatter()
        self._turn, self._turn_of = UPRIGHT, (0, 0, 0)
        self.grey = False

    def picture(self, frame: VideoFrame, aspect: Fraction | None) -> Picture | None:
        """The shown picture; None if the frame cannot be converted.  Raises: LimitExceededError, MemoryError."""
        width, height = square_size(frame.width, frame.height, aspect)
        self._limits.check_pixels(width, height)
        matrix, full_range = _matrix(frame), _is_full_range(frame)
        transfer = PQ if self.grey else frame.color_trc if frame.color_trc in HDR_TABLES else 0
        try:
            if frame.format.name.startswith(HALVED):
                converted = self._converted(frame, "yuv420p", width, height, matrix, full_range, full_range)
                return self._of_planes(converted, self._turned(frame), Colours(matrix, full_range, transfer))
            converted = self._converted(frame, "rgb24", width, height, matrix, full_range, True)
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError):
            return None
        return self._of_rgb(converted, self._turned(frame), transfer)

    def _turned(self, frame: VideoFrame) -> Turn:
        """As `turn`, cached until size or rotation change.

        PyAV's frame and its side data form a reference cycle: a frame whose side data were read is only freed by the
        cycle collector, and the decoder allocates new memory for the next.
        """
        now = frame.width, frame.height, frame.rotation
        if now != self._turn_of:
            self._turn, self._turn_of = turn(frame), now
        return self._turn

    def _converted(
        self, frame: VideoFrame, format: str, width: int, height: int, matrix: int, from_full: bool, to_full: bool
    ) -> VideoFrame:
        if frame.format.name in SAME_SAMPLES[format] and (frame.width, frame.height) == (width, height):
            return frame
        return self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format=format,
            src_colorspace=SWSCALE[matrix],
            dst_colorspace=SWSCALE[matrix],
            src_color_range=ColorRange.JPEG if from_full else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG if to_full else ColorRange.MPEG,
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )

    def _of_planes(self, frame: VideoFrame, turned: Turn, colours: Colours) -> Picture:
        luma, *chroma = (turned.apply(_samples(plane)) for plane in frame.planes[:3])
        height, width = luma.shape
        picture = Picture.in_samples(self._canvas(sample_count(height, width, rgb=False)), height, width, colours)
        for place, plane in zip(picture.planes, (luma, *chroma), strict=True):
            np.copyto(place, plane)
        if self.grey:
            for place in picture.planes[1:]:
                place.fill(NO_COLOUR)
        return picture

    def _of_rgb(self, frame: VideoFrame, turned: Turn, transfer: int) -> Picture:
        plane = frame.planes[0]
        strides = (plane.line_size, 3, 1)
        stored: Image = np.ndarray((frame.height, frame.width, 3), np.uint8, memoryview(plane), 0, strides)
        shown = turned.apply(stored)
        height, width = shown.shape[:2]
        picture = Picture.in_samples(self._canvas(sample_count(height, width, rgb=True)), height, width, None)
        if transfer:
            cv2.LUT(shown, HDR_TABLES[transfer], dst=picture.whole())
        else:
            np.copyto(picture.whole(), shown)
        return picture


def _samples(plane: VideoPlane) -> Image:
    return np.ndarray((plane.height, plane.width), np.uint8, memoryview(plane), 0, (plane.line_size, 1))


def _matrix(frame: VideoFrame) -> int:
    """A key of `LUMA_SHARES`."""
    return MATRICES.get(frame.colorspace, 1 if frame.height >= HD_LINES else 5)


def _is_full_range(frame: VideoFrame) -> bool:
    if frame.color_range in {ColorRange.MPEG, ColorRange.JPEG} and not frame.format.name.startswith("yuvj"):
        return frame.color_range == ColorRange.JPEG
    return frame.format.name.startswith(FULL_UNLESS_TAGGED)
