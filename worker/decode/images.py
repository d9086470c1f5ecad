"""Still images as a clip, from a zip or tar; the front end stores several `frames` or one image as a zip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from worker.core.picture import Picture, sample_count
from worker.core.records import DecodedFrame, Image, VideoInfo
from worker.decode import (
    Canvas,
    DecodeClock,
    DecodeLimits,
    LimitExceededError,
    Sampler,
    Sampling,
    UndecodableInputError,
    new_samples,
)
from worker.decode.archives import IMAGES, PNG_SIGNATURE, has_signature, is_photograph, open_entries
from worker.decode.pillow import Pictures, UnreadableImageError, is_animated

PNG_CHUNK_FRAME = 12  # bytes of a chunk besides its data: length, type, checksum
PNG_LAST_CHUNK = b"IEND"


class ImagesSource:
    """Images of an archive as the frames of one clip, in natural name order at a given frame rate; read once.

    A single animated image is a clip of its own pictures and delays.  An undecodable image keeps its position as a
    frame without a picture, and `warnings` lists it.

    Raises: UndecodableInputError if no image can be decoded; LimitExceededError as soon as a limit is exceeded.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        fps: float,
        limits: DecodeLimits,
        sampling: Sampling | None = None,
        clock: DecodeClock | None = None,
        canvas: Canvas = new_samples,
    ) -> None:
        """kind: `zip`, `tar`, `folder` or `image`.  canvas: allocates the arrays for samples of pictures."""
        self._limits = limits
        self._sampling = sampling or Sampling()
        self._clock = clock or DecodeClock(limits.max_s)
        self._canvas = canvas
        self._fps = fps
        self._moving: Pictures | None = None
        self._stills_of_moving = 0  # animated ones among several
        self._found: tuple[int, Image, int] | None = None  # the first: its index, itself, whether it is one of those
        self.decoded = 0
        self.warnings: list[str] = []
        with ExitStack() as opened:
            self._entries = open_entries(kind, path, limits, opened)
            if not self._entries:
                raise UndecodableInputError(f"the archive holds no {IMAGES} image")
            limits.check_frames(len(self._entries))
            decoded = ((index, self._decode(index)) for index in range(len(self._entries)))
            index, first = next(((i, image) for i, image in decoded if image is not None), (0, None))
            if first is None:
                raise UndecodableInputError(f"none of the images can be decoded; send {IMAGES}")
            if len(self._entries) == 1:
                self._moving = self._pictures(self._entries[0]() or b"")
            self._opened = opened.pop_all()
        height, width = first.shape[:2]
        count = len(self._entries)
        self.info = VideoInfo(width, height, fps, count, count / fps)
        if self._moving is not None:
            self.info = VideoInfo(width, height, None, self._moving.count, None)
        self._found, self._stills_of_moving = (index, first, self._stills_of_moving), 0

    def frames(self) -> Iterator[DecodedFrame]:
        """Sampled frames in order."""
        with closing(self):
            sampler = Sampler(self._sampling)
            unreadable: list[int] = []
            for index, (timestamp_s, read) in enumerate(self._timed()):
                if sampler.past_end(timestamp_s):
                    break
                if sampler.wants(timestamp_s):
                    image = read()
                    if image is None:
                        unreadable.append(index)
                    frame = DecodedFrame(index, timestamp_s, None if image is None else self._picture(image))
                    self._clock.tick()
                    yield frame
                    self._clock.resume()
                self.decoded += 1
            if unreadable:
                shown = ", ".join(map(str, unreadable[:10])) + (", ..." if len(unreadable) > 10 else "")
                self.warnings.append(f"{len(unreadable)} images could not be decoded and have no faces: frames {shown}")
            if self._stills_of_moving:
                self.warnings.append(f"{self._stills_of_moving} images move; of each the first picture is labelled")

    def close(self) -> None:
        """Close the archive; idempotent."""
        self._opened.close()

    def _timed(self) -> Iterator[tuple[float, Callable[[], Image | None]]]:
        """Time and reader of each picture, in order."""
        if self._moving is None:
            for index in range(len(self._entries)):
                yield index / self._fps, partial(self._decode, index)
            return
        timestamp_s = 0.0
        try:
            for picture, duration_s in self._moving.frames():
                self._clock.tick()
                yield timestamp_s, lambda picture=picture: picture  # type: ignore[misc]
                timestamp_s += duration_s
        except UnreadableImageError:
            self.warnings.append(f"the image ends early: {self.decoded} of {self._moving.count} pictures are there")

    def _pictures(self, data: bytes) -> Pictures | None:
        """The pictures of an animated image, None for a still one."""
        if not is_animated(data):
            return None
        try:
            pictures = Pictures(data, self._limits)
        except UnreadableImageError:
            return None
        return pictures if pictures.count > 1 else None

    def _decode(self, index: int) -> Image | None:
        """An entry's picture (H, W, 3) uint8 RGB."""
        self._clock.tick()
        found, self._found = self._found, None
        if found is not None and found[0] == index:
            self._stills_of_moving += found[2]
            return found[1]
        data = self._entries[index]()
        if data is None or not has_signature(data) or _promises_more(data):
            return None
        image = self._photograph(data) if is_photograph(data) else self._by_opencv(data, index)
        if image is not None:
            self._limits.check_pixels(image.shape[1], image.shape[0])
            self._stills_of_moving += len(self._entries) > 1 and is_animated(data)
        return image

    def _photograph(self, data: bytes) -> Image | None:
        try:
            picture, _ = next(Pictures(data, self._limits).frames())
        except UnreadableImageError:
            return None
        return picture

    def _by_opencv(self, data: bytes, index: int) -> Image | None:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        except cv2.error:  # more pixels than OPENCV_IO_MAX_IMAGE_PIXELS
            raise LimitExceededError(f"image {index} exceeds the limit of {self._limits.max_pixels} pixels") from None
        return None if image is None else np.asarray(image, np.uint8)

    def _picture(self, image: Image) -> Picture:
        height, width = image.shape[:2]
        picture = Picture.in_samples(self._canvas(sample_count(height, width, rgb=True)), height, width, None)
        np.copyto(picture.whole(), image)
        return picture


def _promises_more(data: bytes) -> bool:
    """Whether this is a PNG with a chunk whose declared length exceeds the file.

    OpenCV allocates the declared length, up to 4 GiB, and takes seconds to fill it before it detects the truncation.
    """
    if not data.startswith(PNG_SIGNATURE):
        return False
    at = len(PNG_SIGNATURE)
    while at < len(data) and data[at + 4 : at + 8] != PNG_LAST_CHUNK:
        at += PNG_CHUNK_FRAME + int.from_bytes(data[at : at + 4], "big")
    return at > len(data)
