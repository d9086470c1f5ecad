"""Portraits with an expression label beside the stills: sharper faces, cut as serving cuts them.

    detector_faces.npz          `jpeg`, `offsets`, `faces` (N, 15): image i is the JPEG in
                                jpeg[offsets[i]:offsets[i+1]], its five landmarks are faces[i, 4:14], in pixels
    portrait_expressions.npy    (N,) int8 label in the order of `worker.training.stills.LABELS`, -1 unknown

They lie in the folder of the `stills` layout.  Three of ten are kept apart for measuring: those whose index ends in 0,
1 or 2.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from worker.crops import CropSpec, Image, crop_aligned
from worker.training.errors import DataError
from worker.training.stills import LABELS, Indices

FILES = ("detector_faces.npz", "portrait_expressions.npy")
KEPT_APART, OF = 3, 10


@dataclass(frozen=True)
class Portraits:
    """pictures: N encoded images.  landmarks: (N, 5, 2) float32, pixels.  labels: (N,) int64, -1 unknown."""

    pictures: list[bytes]
    landmarks: npt.NDArray[np.float32]
    labels: Indices

    def __len__(self) -> int:
        return len(self.pictures)

    def crops(self, spec: CropSpec) -> Image:
        """(N, size, size, C) uint8, cut by the landmarks.  Raises: DataError for an image that cannot be decoded."""
        found = np.empty((len(self), spec.size, spec.size, 3 if spec.colour == "rgb" else 1), np.uint8)
        for place, (picture, landmarks) in enumerate(zip(self.pictures, self.landmarks, strict=True)):
            decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR_RGB)
            if decoded is None:
                raise DataError(f"image {place} of the portraits cannot be decoded")
            found[place] = crop_aligned(np.asarray(decoded, np.uint8), landmarks, spec)
        return found


def read_portraits(folder: Path, *, kept_apart: bool) -> Portraits:
    """The portraits to train on, or those kept apart.

    Raises: DataError if a file is missing or has other arrays than it should.
    """
    images, labels = (folder / name for name in FILES)
    try:
        with np.load(images, allow_pickle=False) as file:
            data, offsets, faces = file["jpeg"].tobytes(), file["offsets"], file["faces"]
        found = np.load(labels, allow_pickle=False).astype(np.int64)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} does not exist; stills.portraits=0 trains without portraits") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{folder} holds no readable portraits: {error}") from None
    count = len(found)
    if offsets.shape != (count + 1,) or faces.shape != (count, 15):
        raise DataError(f"{images} and {labels} do not belong together: {len(faces)} faces, {count} labels")
    if found.min() < -1 or found.max() >= len(LABELS):
        raise DataError(f"{labels} must lie in -1..{len(LABELS) - 1}")
    rows = np.flatnonzero((np.arange(count) % OF < KEPT_APART) == kept_apart)
    return Portraits(
        [data[offsets[row] : offsets[row + 1]] for row in rows],
        faces[rows, 4:14].reshape(-1, 5, 2).astype(np.float32),
        found[rows],
    )
