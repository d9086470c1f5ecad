"""Landmarks looked at a second time: a small network sees every face upright, in one size, and moves its landmarks.

The detector reads them off cells of 8 to 32 pixels, for heads of any lean and size at once.  Here the landmarks that it
found say where the face is, so that every face stands in the same place of a small view, cut from the frame as it is
and not from the reduced one; what is left to learn is how far each landmark lies off its usual place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from worker.core.affine import Map, aligning, inverse, moved, seen_part, size_change, warped_part
from worker.core.conv_fusion import for_inference
from worker.core.records import Detections, Floats, Image
from worker.faces.network import Tensors, convolution_unit, initialise_convolutions, load_weights

VIEW_PX = 48
# Where a view shows landmarks, as fractions of its side, if the detector's are right: all of the face with some room.
USUAL = np.array([[0.34, 0.4], [0.66, 0.4], [0.5, 0.57], [0.37, 0.74], [0.63, 0.74]], np.float32)
UNMOVED: Map = np.array([[1.0, 0, 0], [0, 1, 0]])
MIDDLE_GREY, SPREAD = 128.0, 64.0
MOST_FACES = 64  # at once
GPU_SIZES = (1, 4, 16, MOST_FACES)  # fewer faces are padded up: cuDNN plans anew for each size that is new


@dataclass(frozen=True)
class RefinementSizes:
    """widths: channels of the five 3x3 convolutions, the first, third and fifth of which halve the view.

    last: channels that the landmarks are read from.
    """

    widths: tuple[int, int, int, int, int] = (16, 24, 32, 32, 40)
    last: int = 16


class RefinementNet(nn.Module):
    """Grey views (N, 1, 48, 48) float in 0..255 -> (N, 10): how far the five landmarks lie off `USUAL`, x and y, as
    fractions of the side.
    """

    def __init__(self, sizes: RefinementSizes) -> None:
        super().__init__()
        steps = (2, 1, 2, 1, 2)
        before = (1, *sizes.widths)
        self.features = nn.Sequential(
            *(convolution_unit(a, b, 3, step) for a, b, step in zip(before[:5], sizes.widths, steps, strict=True)),
            convolution_unit(sizes.widths[-1], sizes.last, 1, 1),
        )
        self.places = nn.Linear(sizes.last * (VIEW_PX // 8) ** 2, 2 * len(USUAL))

    def forward(self, views: Tensor) -> Tensor:
        return self.places(self.features((views - MIDDLE_GREY) / SPREAD).flatten(1))  # type: ignore[no-any-return]


class Refiner:
    """The network on one device."""

    def __init__(self, sizes: RefinementSizes, weights: Tensors, device: torch.device) -> None:
        """Raises: RuntimeError if the weights do not fit the sizes."""
        net = RefinementNet(sizes)
        load_weights(net, weights)
        self._device = device
        example = torch.zeros((1, 1, VIEW_PX, VIEW_PX), device=device).contiguous(memory_format=torch.channels_last)
        self._net = for_inference(net.requires_grad_(requires_grad=False), example)
        self._warm = False

    def refine(self, images: Sequence[Image], found: Sequence[Detections]) -> list[Detections]:
        """Faces of every image with the landmarks that the network answers; boxes and scores stay.

        Landmarks that all lie in one place say nothing of the face; they stay, too.
        """
        if not self._warm:  # also where there is no face: what the first one needs is then there, or missed now
            for size in GPU_SIZES if self._device.type == "cuda" else GPU_SIZES[:1]:
                self._places(np.zeros((size, VIEW_PX, VIEW_PX), np.uint8))
            self._warm = True
        hows: list[Map] = []
        views: list[Image] = []
        for image, faces in zip(images, found, strict=True):
            for marks in _landmarks(faces):
                how = aligning(marks, USUAL * VIEW_PX)
                if not size_change(how):
                    how = UNMOVED
                hows.append(how)
                views.append(upright_view(image, how))
        if not views:
            return list(found)
        answers = (self._places(np.stack(views)) + USUAL) * VIEW_PX  # (N, 5, 2)
        exact = iter(
            [None if how is UNMOVED else moved(places, inverse(how)) for places, how in zip(answers, hows, strict=True)]
        )
        return [_with(faces, exact) for faces in found]

    @torch.inference_mode()
    def _places(self, views: Image) -> Floats:
        """(N, 5, 2) fractions off `USUAL`, for (N, 48, 48) uint8."""
        parts = []
        for start in range(0, len(views), MOST_FACES):
            part = views[start : start + MOST_FACES]
            count = len(part) if self._device.type == "cpu" else next(n for n in GPU_SIZES if n >= len(part))
            padded = np.zeros((count, 1, VIEW_PX, VIEW_PX), np.uint8)
            padded[: len(part), 0] = part
            pixels = torch.from_numpy(padded).to(self._device).contiguous(memory_format=torch.channels_last)
            parts.append(self._net(pixels.float())[: len(part)].float().cpu().numpy())
        return np.concatenate(parts).reshape(-1, *USUAL.shape)


def upright_view(image: Image, how: Map) -> Image:
    """(48, 48) uint8 grey as the map shows an (H, W, 3) RGB image; what lies beyond it repeats its border."""
    part, how = seen_part(image, how, VIEW_PX, VIEW_PX)
    grey = np.asarray(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), np.uint8)
    return warped_part(grey, how, VIEW_PX, VIEW_PX, cv2.BORDER_REPLICATE)


def initialise(net: RefinementNet) -> None:
    """An untrained network leaves the landmarks almost where they are."""
    initialise_convolutions(net)
    nn.init.normal_(net.places.weight, std=1e-3)
    nn.init.zeros_(net.places.bias)


def _landmarks(faces: Detections) -> Floats:
    assert faces.landmarks is not None  # noqa: S101 - the detector's network always gives them
    return faces.landmarks


def _with(faces: Detections, exact: Iterator[npt.NDArray[np.float64] | None]) -> Detections:
    marks = [own if (new := next(exact)) is None else new for own in _landmarks(faces)]
    return Detections(faces.boxes, faces.scores, np.array(marks, np.float32).reshape(-1, *USUAL.shape))
