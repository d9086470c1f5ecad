"""Face crops: from a frame and a face to the square crop for the backbone.

One implementation for serving and training.  A crop is uint8 (size, size, C), C = 3 (RGB) or 1 (grey), 0..255; the
normalisation that follows it is part of the network (`worker.ensemble.networks.Normalise`), so it runs on the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from worker.core.affine import aligning, seen_part
from worker.core.picture import Shown, halved, resized, warped, warped_grey, whole

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]
# Scales, crop pixels per frame pixel, below which a face is halved, and sampled twice as finely, before averaging.
HALVE_BELOW, SUPERSAMPLE_BELOW = 0.4, 2 / 3
SHARPNESS_SIDE = 48  # pixels, of the crops that the limit of `trust` was measured on


@dataclass(frozen=True)
class CropSpec:
    """The crops of a bundle, from its manifest's `input`; for a new bundle from the recipe.

    size: side in pixels.  landmarks: (5, 2) float32, target positions of the landmarks, as fractions of the side.
    """

    size: int
    colour: Literal["rgb", "grey"]
    landmarks: Points


def crop_aligned(frame: Shown, landmarks: Points, spec: CropSpec) -> Image:
    """Crop by the similarity transform from `landmarks`, (5, 2) in pixels of the frame, to the template.

    Returns (size, size, C) uint8; pixels outside the frame repeat its border.
    """
    matrix = aligning(landmarks, spec.landmarks * spec.size).astype(np.float32)
    return _warp(frame, matrix, spec)


def crop_whole(frame: Shown, spec: CropSpec) -> Image:
    """The whole frame as one crop (size, size, C) uint8, resized without its aspect ratio: for input of face crops."""
    sized = frame.shape[:2] == (spec.size, spec.size)
    return _coloured(whole(frame) if sized else resized(frame, spec.size, spec.size), spec)


def sharpness(crop: Image) -> float:
    """Fine detail of a crop (H, W, C) uint8, 0 (none) to 1: its second derivative relative to its contrast.

    Low for a face that is enlarged to the crop's size, out of focus or blurred by movement.  Larger crops are reduced
    first, so that the number means the same for every bundle.
    """
    grey = crop[:, :, 0] if crop.shape[2] == 1 else cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    if len(grey) > SHARPNESS_SIDE:
        grey = np.asarray(cv2.resize(grey, (SHARPNESS_SIDE, SHARPNESS_SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    detail = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1].item()
    contrast = cv2.meanStdDev(grey)[1].item()
    return min(detail / (2 * contrast + 4), 1.0)


def _warp(frame: Shown, matrix: npt.NDArray[np.float32], spec: CropSpec) -> Image:
    # Bilinear sampling of a larger face would alias: halve it, then supersample.
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    seen, matrix = seen_part(frame, matrix, spec.size, spec.size)
    times = max(math.ceil(math.log2(HALVE_BELOW / scale)), 0) if 0 < scale < HALVE_BELOW else 0
    if times:
        seen = halved(seen, times)
        matrix[:, 2] += matrix[:, :2].sum(axis=1) * (2**times - 1) / 2  # coordinates refer to pixel centres
        matrix[:, :2] *= 2**times
    finer = 2 if times or 0 < scale < SUPERSAMPLE_BELOW else 1
    if spec.colour == "grey":
        return warped_grey(seen, matrix, spec.size, spec.size, cv2.BORDER_REPLICATE, finer=finer)[:, :, None]
    return warped(seen, matrix, spec.size, spec.size, cv2.BORDER_REPLICATE, finer=finer)


def _coloured(image: Image, spec: CropSpec) -> Image:
    if spec.colour == "rgb":
        return image
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)[:, :, None]
