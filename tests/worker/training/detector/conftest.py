"""A miniature of the detector's data: portraits cut from one real face, and pictures of textures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from skimage import data as skimage_data

from worker.training.detector.material import BACKGROUNDS_FILE, FACES_FILE

# Of the astronaut's portrait: a square around her face, the face's box, and her landmarks.
LEFT, TOP, SIDE = 140, 40, 170
BOX = (178.0, 61.0, 91.0, 113.0)
LANDMARKS = ((202.5, 102.0), (245.0, 104.0), (225.0, 127.0), (204.5, 142.5), (242.0, 141.5))


def write_packed(path: Path, images: Sequence[np.ndarray], **arrays: np.ndarray) -> None:
    """Images as one array of JPEG bytes with offsets, as the detector's data has them."""
    coded = [cv2.imencode(".jpg", image)[1] for image in images]
    offsets = np.cumsum([0, *(len(one) for one in coded)], dtype=np.int64)
    every: dict[str, Any] = {"jpeg": np.concatenate(coded), "offsets": offsets, **arrays}
    np.savez(path, **every)


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve portraits, six pictures without a face, two that might have one."""
    folder = tmp_path_factory.mktemp("detector_data")
    portrait = cv2.cvtColor(skimage_data.astronaut(), cv2.COLOR_RGB2GRAY)  # type: ignore[no-untyped-call]
    face = cv2.resize(portrait[TOP : TOP + SIDE, LEFT : LEFT + SIDE], (160, 160), interpolation=cv2.INTER_AREA)
    scale = 160 / SIDE
    row = [(BOX[0] - LEFT) * scale, (BOX[1] - TOP) * scale, BOX[2] * scale, BOX[3] * scale]
    row += [value for x, y in LANDMARKS for value in ((x - LEFT) * scale, (y - TOP) * scale)]
    write_packed(folder / FACES_FILE, [face] * 12, faces=np.array([[*row, 0.9]] * 12, np.float32))
    rng = np.random.default_rng(1)
    small = [rng.integers(0, 256, (12, 16, 3), np.uint8) for _ in range(8)]
    pictures = [cv2.resize(one, (320, 240), interpolation=cv2.INTER_CUBIC) for one in small]
    scores = np.array([0, 0, 0, 0.8, 0, 0, 0.9, 0], np.float32)
    write_packed(folder / BACKGROUNDS_FILE, pictures, teacher_score=scores)
    return folder
