"""Frames from image files: decoded and cropped in loader processes, by the crop code of serving."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from worker.crops import CropSpec, Image, crop_whole
from worker.training.errors import DataError

CROP_SEED = 201
ASPECT = 4 / 3  # of a random resized crop, at most either way
TRIES = 10


@dataclass(frozen=True)
class Draw:
    """A frame to load.  epoch: seeds its random crop; None for no random crop."""

    item: int
    epoch: int | None = None


class FrameDataset(Dataset[Tensor]):
    """(size, size, C) uint8 crops of image files that already are face crops."""

    def __init__(self, images: Sequence[Path], crop: CropSpec, crop_scale: float, seed: int) -> None:
        self.images = images
        self.crop = crop
        self.crop_scale = crop_scale
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw) -> Tensor:
        frame = read_rgb(self.images[draw.item])
        if draw.epoch is not None and self.crop_scale < 1:
            rng = np.random.default_rng((self.seed, CROP_SEED, draw.epoch, draw.item))
            frame = random_part(frame, self.crop_scale, rng)
        return torch.from_numpy(crop_whole(frame, self.crop))


def load_frames(dataset: FrameDataset, batches: Sequence[Sequence[Draw]], loaders: int) -> Iterator[Tensor]:
    """Batches (n, size, size, C) uint8, in order; `loaders` processes decode ahead, 0 decodes here.

    Raises: DataError if an image cannot be decoded.
    """
    if not batches:
        return
    loader: DataLoader[Tensor] = DataLoader(
        dataset,
        batch_sampler=batches,  # type: ignore[arg-type]  # torch's stubs want ints, any key of the dataset works
        num_workers=min(loaders, len(batches)),
        worker_init_fn=_one_thread,
        prefetch_factor=4 if loaders else None,
    )
    yield from loader


def draws(items: Tensor | range, epoch: int | None = None) -> list[Draw]:
    """One draw for each item."""
    return [Draw(int(item), epoch) for item in items]


def read_rgb(path: Path) -> Image:
    """An image file as (H, W, 3) uint8 RGB.  Raises: DataError if it cannot be decoded."""
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error) as error:
        raise DataError(f"{path} cannot be read: {str(error).strip() or 'empty'}") from None
    if image is None:
        raise DataError(f"{path} is not an image")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def random_part(image: Image, smallest: float, rng: np.random.Generator) -> Image:
    """A random rectangle of `smallest`..1 of the area and 3:4 to 4:3, to be resized to the crop's size.

    Source: the random resized crop of Szegedy et al. 2014 (arXiv 1409.4842), as torchvision draws it.
    """
    height, width = image.shape[:2]
    for _ in range(TRIES):
        area = rng.uniform(smallest, 1.0) * height * width
        aspect = np.exp(rng.uniform(-np.log(ASPECT), np.log(ASPECT)))
        w, h = round(float(np.sqrt(area * aspect))), round(float(np.sqrt(area / aspect)))
        if 0 < w <= width and 0 < h <= height:
            x, y = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
            return image[y : y + h, x : x + w]
    return image


def _one_thread(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
