"""Still images as a clip: of a zip or tar, also of what the front end makes of several `frames` or one image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import cv2
import numpy as np

from worker.core.records import DecodedFrame, Image, VideoInfo
from worker.decode import (
    Canvas,
    DecodeClock,
    DecodeLimits,
    LimitExceededError,
    Sampler,
    Sampling,
    UndecodableInputError,
    new_image,
)
from worker.decode.archives import PNG_SIGNATURE, has_signature, open_entries

PNG_CHUNK_FRAME = 12  # bytes of a chunk around its data: length, type, checksum
PNG_LAST_CHUNK = b"IEND"


class ImagesSource:
    """Images of an archive as the frames of one clip, in natural name order at a given frame rate; read once.

    An image that cannot be decoded keeps its place as a frame without a picture, and is named in `warnings`.

    Raises: UndecodableInputError if no image can be decoded, LimitExceededError as soon as a limit is passed.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        fps: float,
        limits: DecodeLimits,
        sampling: Sampling | None = None,
        clock: DecodeClock | None = None,
        canvas: Canvas = new_image,
    ) -> None:
        """kind: `zip`, `tar`, `folder` or `image`.  canvas: makes the arrays that pictures are put into."""
        self._limits = limits
        self._sampling = sampling or Sampling()
        self._clock = clock or DecodeClock(limits.max_s)
        self._canvas = canvas
        self._fps = fps
        with ExitStack() as opened:
            self._entries = open_entries(kind, path, limits, opened)
            if not self._entries:
                raise UndecodableInputError("the archive holds no JPEG, PNG or WebP image")
            limits.check_frames(len(self._entries))
            first = next((image for image in map(self._decode, range(len(self._entries))) if image is not None), None)
            if first is None:
                raise UndecodableInputError("none of the images can be decoded; send JPEG, PNG or WebP")
            self._opened = opened.pop_all()
        count = len(self._entries)
        self.info = VideoInfo(first.shape[1], first.shape[0], fps, count, count / fps)
        self.decoded = 0
        self.warnings: list[str] = []

    def frames(self) -> Iterator[DecodedFrame]:
        """Sampled frames in order."""
        with closing(self):
            sampler = Sampler(self._sampling)
            unreadable: list[int] = []
            for index in range(len(self._entries)):
                timestamp_s = index / self._fps
                if sampler.past_end(timestamp_s):
                    break
                if sampler.wants(timestamp_s):
                    bgr = self._decode(index)
                    if bgr is None:
                        unreadable.append(index)
                    frame = DecodedFrame(index, timestamp_s, None if bgr is None else self._picture(bgr))
                    self._clock.tick()
                    yield frame
                    self._clock.resume()
                self.decoded += 1
            if unreadable:
                shown = ", ".join(map(str, unreadable[:10])) + (", ..." if len(unreadable) > 10 else "")
                self.warnings.append(f"{len(unreadable)} images could not be decoded and have no faces: frames {shown}")

    def close(self) -> None:
        """Close the archive; safe to call twice."""
        self._opened.close()

    def _decode(self, index: int) -> Image | None:
        """BGR, as OpenCV has it."""
        self._clock.tick()
        data = self._entries[index]()
        if data is None or not has_signature(data) or _promises_more(data):
            return None
        try:
            bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:  # more pixels than OpenCV was told to accept
            raise LimitExceededError(f"image {index} exceeds the limit of {self._limits.max_pixels} pixels") from None
        if bgr is None:
            return None
        self._limits.check_pixels(bgr.shape[1], bgr.shape[0])
        return np.asarray(bgr, np.uint8)

    def _picture(self, bgr: Image) -> Image:
        height, width = bgr.shape[:2]
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=self._canvas(height, width)), np.uint8)


def _promises_more(data: bytes) -> bool:
    """Whether this is a PNG with a chunk that says to be longer than what follows.

    OpenCV takes the chunk's word, up to 4 GiB of memory and seconds to fill it, before it finds the image cut short.
    """
    if not data.startswith(PNG_SIGNATURE):
        return False
    at = len(PNG_SIGNATURE)
    while at < len(data) and data[at + 4 : at + 8] != PNG_LAST_CHUNK:
        at += PNG_CHUNK_FRAME + int.from_bytes(data[at : at + 4], "big")
    return at > len(data)
