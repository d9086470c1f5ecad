"""A composed frame: pictures are drawn onto a canvas, which keeps where each went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict

import cv2
import numpy as np
import numpy.typing as npt

from tests.bench.marked_frames.pictures import Image

Read = Callable[[str], Image]
Floats = npt.NDArray[np.float64]

ALIASING_SCALE = 0.5  # below it a warp alone would alias


class Part(TypedDict):
    """matrix: 2x3, from the picture's pixels to the canvas's.  polygon: (4, 2) xy, the corners on the canvas."""

    part: str
    matrix: list[list[float]]
    polygon: list[list[float]]


class Canvas:
    """image: BGR, (H, W, 3) uint8.  ground: the picture below all others, else a colour."""

    def __init__(
        self,
        read: Read,
        width: int,
        height: int,
        ground: str | None = None,
        colour: tuple[int, int, int] = (70, 64, 60),
    ) -> None:
        self._read = read
        self.image: Image = np.full((height, width, 3), colour, np.uint8)
        self.parts: list[Part] = []
        if ground:
            self.put(ground, 0, 0, width, height)

    def put(
        self,
        name: str,
        x: int,
        y: int,
        w: int,
        h: int,
        angle: float = 0.0,
        mirror: bool = False,
        crop: tuple[int, int, int, int] | None = None,
    ) -> None:
        """Fill the rectangle x, y, w, h, turned by angle degrees about its centre, with the middle of a picture.

        crop: x, y, width, height of the part of the picture that is used.
        """
        source = self._read(name)
        sh, sw = source.shape[:2]
        cx, cy, cw, ch = crop or (0, 0, sw, sh)
        scale = max(w / cw, h / ch)
        uw, uh = w / scale, h / scale  # used part of the source
        ux, uy = cx + (cw - uw) / 2, cy + (ch - uh) / 2
        to_rectangle = np.array([[scale, 0, -ux * scale], [0, scale, -uy * scale], [0, 0, 1.0]])
        if mirror:
            to_rectangle = np.array([[-1, 0, w], [0, 1, 0], [0, 0, 1.0]]) @ to_rectangle
        turn = np.vstack([cv2.getRotationMatrix2D((w / 2, h / 2), angle, 1), [0, 0, 1]])
        place = np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])
        matrix = (place @ turn @ to_rectangle)[:2]
        corners = (place @ turn @ np.array([[0, w, w, 0], [0, 0, h, h], [1, 1, 1, 1.0]]))[:2].T
        self._draw(source, matrix, scale, corners)
        self.parts.append({"part": name, "matrix": matrix.tolist(), "polygon": corners.tolist()})

    def _draw(self, source: Image, matrix: Floats, scale: float, corners: Floats) -> None:
        warp = matrix
        if scale < ALIASING_SCALE:
            sh, sw = source.shape[:2]
            size = (max(1, round(sw * scale)), max(1, round(sh * scale)))
            source = np.asarray(cv2.resize(source, size, interpolation=cv2.INTER_AREA), np.uint8)
            back = np.diag([sw / source.shape[1], sh / source.shape[0], 1.0])
            warp = (np.vstack([matrix, [0, 0, 1]]) @ back)[:2]
        size = (self.image.shape[1], self.image.shape[0])
        layer = cv2.warpAffine(source, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        mask = np.zeros(self.image.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, np.round(corners).astype(np.int32), (255,))
        self.image[mask > 0] = layer[mask > 0]

    def grid(self, names: Sequence[str], columns: int, rows: int, gap: int = 6) -> None:
        """As many of the pictures as there are cells; every third is mirrored."""
        height, width = self.image.shape[:2]
        w, h = (width - gap * (columns + 1)) / columns, (height - gap * (rows + 1)) / rows
        for index, name in enumerate(names[: columns * rows]):
            x, y = gap + (index % columns) * (w + gap), gap + (index // columns) * (h + gap)
            self.put(name, round(x), round(y), round(w), round(h), mirror=index % 3 == 1)

    def enlarge(self, width: int, height: int) -> None:
        """To another size of the same shape, with what was drawn so far."""
        before = self.image.shape[1]
        for part in self.parts:
            part["matrix"] = (np.array(part["matrix"]) * width / before).tolist()
            part["polygon"] = (np.array(part["polygon"]) * width / before).tolist()
        self.image = np.asarray(cv2.resize(self.image, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)

    def gamma(self, power: float, gain: float) -> None:
        self.image = np.clip(((self.image / 255.0) ** power) * 255 * gain, 0, 255).astype(np.uint8)

    def noise(self, sigma: float) -> None:
        noise = np.random.RandomState(1).normal(0, sigma, self.image.shape)
        self.image = np.clip(self.image + noise, 0, 255).astype(np.uint8)

    def motion(self, length: int) -> None:
        """Blur along a row."""
        self.image = np.asarray(cv2.filter2D(self.image, -1, np.full((1, length), 1.0 / length)), np.uint8)

    def blur(self, sigma: float) -> None:
        self.image = np.asarray(cv2.GaussianBlur(self.image, (0, 0), sigma), np.uint8)

    def jpeg(self, quality: int) -> None:
        """Through JPEG and back."""
        _, data = cv2.imencode(".jpg", self.image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        self.image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
