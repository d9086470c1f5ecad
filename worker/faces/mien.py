"""Our own detector: a small network in torch, for batches of frames on the CPU or a GPU.

Boxes, scores and five landmarks.  Frames are reduced to a longer side of 640 pixels; frames of one size that follow
each other go through the network together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from worker.core.conv_fusion import for_inference
from worker.core.devices import OutOfDeviceMemoryError, on_device
from worker.core.records import Detections, Image
from worker.faces.network import DetectorNet, DetectorSizes, Tensors, all_cells, load_weights
from worker.faces.refinement import RefinementSizes, Refiner
from worker.faces.suppression import faces_in

BATCH_CPU = 1  # more frames at once leave the caches
BATCH_GPU = 16
GPU_SIZES = (1, 2, 4, 8, BATCH_GPU)  # smaller batches are padded up: cuDNN plans anew for each size that is new
# Narrower boxes, in pixels of the frame itself, are left out: of the few that it finds, many are no faces (on a clip
# without any, all that it found were 17 wide), and what is one holds too little to be labelled well.
NARROWEST_PX = 20.0
REFINEMENT = "refinement."  # begins the names of the refinement's weights
USUAL_SIZE = (360, 640)  # what the CPU's weights are laid out for; other sizes work


@dataclass(frozen=True)
class MienSpec:
    """How the network is built and used.  max_side_px: frames are reduced to it.  min_score: its own threshold.

    small_bonus: see `suppression.faces_in`.  refinement: of the network that makes landmarks exact, where there is one.
    """

    sizes: DetectorSizes = field(default_factory=DetectorSizes)
    max_side_px: int = 640
    min_score: float = 0.5
    small_bonus: float = 0.0
    refinement: RefinementSizes | None = None


class Mien:
    """The detector on one device."""

    name = "mien"

    def __init__(self, spec: MienSpec, weights: Tensors, device: torch.device) -> None:
        """Raises: RuntimeError if the weights do not fit the sizes."""
        self._refiner = None
        if spec.refinement is not None:
            weights, refining = split_weights(weights)
            self._refiner = Refiner(spec.refinement, refining, device)
        net = DetectorNet(spec.sizes)
        load_weights(net, weights)
        with torch.no_grad():
            next(net.stem.parameters()).div_(255)  # so that the network takes pixels as they are
        self.batch = BATCH_CPU if device.type == "cpu" else BATCH_GPU
        usual = torch.zeros((1, 3, *USUAL_SIZE), device=device).contiguous(memory_format=torch.channels_last)
        self._net = for_inference(net.requires_grad_(requires_grad=False), usual)
        self._spec, self._device = spec, device

    def detect(self, images: Sequence[Image], min_score: float | None) -> list[Detections]:
        """See `Detector.detect`."""
        lowest = self._spec.min_score if min_score is None else min_score
        with on_device(self._device):
            return [faces for group in _of_one_size(images, self.batch) for faces in self._detect(group, lowest)]

    def _detect(self, group: Sequence[Image], min_score: float) -> list[Detections]:
        """Faces of frames of one size.  Raises: OutOfDeviceMemoryError where there is no memory even for one."""
        height, width = group[0].shape[:2]
        small_height, small_width = reduced_size(height, width, self._spec.max_side_px)
        back = np.array([width / small_width, height / small_height], np.float32)
        try:
            found = self._faces(self._pixels(group, (small_height, small_width)), min_score)
            return self._exact(group, [_scaled(faces, back) for faces in found[: len(group)]])
        except torch.OutOfMemoryError:
            if len(group) == 1:
                raise OutOfDeviceMemoryError("the device has no memory to look for faces; free some of it") from None
        half = len(group) // 2
        return [faces for part in (group[:half], group[half:]) for faces in self._detect(part, min_score)]

    def _exact(self, group: Sequence[Image], found: list[Detections]) -> list[Detections]:
        return found if self._refiner is None else self._refiner.refine(group, found)

    @torch.inference_mode()
    def _faces(self, pixels: Tensor, min_score: float) -> list[Detections]:
        # pixels: (B, 3, h, w) in 0..255.
        with torch.autocast(self._device.type, torch.float16, enabled=self._device.type == "cuda"):
            maps = self._net(pixels)
        height, width = pixels.shape[2:]
        return faces_in(maps, all_cells(height, width, self._device), min_score, self._spec.small_bonus)

    def _pixels(self, group: Sequence[Image], size: tuple[int, int]) -> Tensor:
        """(B, 3, h, w) float32 in 0..255, channels last in memory, on the device; B is padded up on a GPU."""
        if self._device.type == "cpu":
            return _channels_first(np.stack([_reduced(image, size) for image in group])).float()
        rows = next(count for count in GPU_SIZES if count >= len(group))
        pixels = torch.zeros((rows, 3, *size), device=self._device).contiguous(memory_format=torch.channels_last)
        # The whole frames are copied: a GPU reduces them faster than the CPU does.  One by one, since as floats they
        # are large.
        for row, image in enumerate(group):
            whole = torch.empty(image.shape, dtype=torch.uint8, pin_memory=True)
            whole.numpy()[...] = image
            frame = whole.to(self._device, non_blocking=True).permute(2, 0, 1)[None].float()
            same = tuple(frame.shape[2:]) == size
            pixels[row] = (frame if same else F.interpolate(frame, size, mode="bilinear", antialias=True))[0]
        return pixels


def split_weights(weights: Tensors) -> tuple[Tensors, Tensors]:
    """Of a stored detector: its network's, and the refinement's, which are stored under `REFINEMENT`."""
    refining = {key.removeprefix(REFINEMENT): value for key, value in weights.items() if key.startswith(REFINEMENT)}
    return {key: value for key, value in weights.items() if not key.startswith(REFINEMENT)}, refining


def reduced_size(height: int, width: int, max_side_px: int) -> tuple[int, int]:
    """Height and width with a longer side of at most `max_side_px`, each at least 1."""
    scale = min(1.0, max_side_px / max(height, width))
    return max(round(height * scale), 1), max(round(width * scale), 1)


def _reduced(image: Image, size: tuple[int, int]) -> Image:
    if image.shape[:2] == size:
        return image
    height, width = size
    if image.shape[0] > 2 * height:
        # Interpolation looks at four pixels only; halving twice the size by area averages four such looks, which is
        # almost as good as averaging all pixels and, for large frames, many times faster.
        image = np.asarray(cv2.resize(image, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR), np.uint8)
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _channels_first(frames: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def _of_one_size(images: Sequence[Image], most: int) -> Iterator[list[Image]]:
    group: list[Image] = []
    for image in images:
        if group and (len(group) == most or image.shape != group[0].shape):
            yield group
            group = []
        group.append(image)
    if group:
        yield group


def _scaled(faces: Detections, back: npt.NDArray[np.float32]) -> Detections:
    assert faces.landmarks is not None  # noqa: S101 - the network always gives them
    scaled = Detections(faces.boxes * np.tile(back, 2), faces.scores, faces.landmarks * back)
    return scaled.take(np.flatnonzero(scaled.boxes[:, 2] - scaled.boxes[:, 0] >= NARROWEST_PX))
