"""Images that OpenCV does not support fully, by Pillow: photographs (HEIC, AVIF) and animations (WebP, PNG, AVIF).

HEIC and AVIF files are often grids of tiles with a rotation; Pillow and libheif assemble them.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pi_heif
from PIL import Image as Pillow
from PIL import ImageOps

from worker.core.records import Image
from worker.decode import DecodeLimits
from worker.decode.times import INSTEAD_MS, SHORTEST_MS

WEBP_ANIMATED = 0x02  # flag in the chunk VP8X

pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
Pillow.MAX_IMAGE_PIXELS = None  # `DecodeLimits` are checked before anything is decoded


class UnreadableImageError(Exception):
    """Pillow cannot read the image."""


def is_animated(data: bytes) -> bool:
    """Whether the header of a WebP, PNG or AVIF declares an animation."""
    if data.startswith(b"RIFF") and data[12:16] == b"VP8X":
        return bool(data[20] & WEBP_ANIMATED)
    if data.startswith(b"\x89PNG"):
        return b"acTL" in data[: data.find(b"IDAT")]
    return data[4:12] == b"ftypavis"


class Pictures:
    """The `count` pictures of one file, one if it is not animated.

    Raises: UnreadableImageError, LimitExceededError.
    """

    def __init__(self, data: bytes, limits: DecodeLimits) -> None:
        self._limits = limits
        with _reading():
            self._image = Pillow.open(io.BytesIO(data), formats=("HEIF", "AVIF", "WEBP", "PNG"))
        limits.check_pixels(*self._image.size)
        self.count = int(getattr(self._image, "n_frames", 1)) if is_animated(data) else 1
        limits.check_frames(self.count)

    def frames(self) -> Iterator[tuple[Image, float]]:
        """Each picture (H, W, 3) uint8 RGB, upright, with its duration in seconds."""
        for i in range(self.count):
            with _reading():
                if i or self.count > 1:
                    self._image.seek(i)
                shown = ImageOps.exif_transpose(self._image)
                picture = np.asarray(shown.convert("RGB"), np.uint8)
            self._limits.check_pixels(picture.shape[1], picture.shape[0])
            duration_ms = float(self._image.info.get("duration") or 0)
            yield picture, (duration_ms if duration_ms > SHORTEST_MS else INSTEAD_MS) / 1000


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError, TypeError, KeyError, struct.error) as error:
        raise UnreadableImageError(type(error).__name__) from None
