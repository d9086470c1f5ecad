"""Our own detector, with the weights that ship."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from worker.core.devices import OutOfDeviceMemoryError
from worker.core.records import Detections, Image
from worker.faces import Detector
from worker.faces.mien import Mien, reduced_size
from worker.inference.detectors import open_detector

# The astronaut's face in her portrait, 512 x 512 pixels: box, eyes, nose and mouth corners, read off by eye.
FACE = (178.0, 61.0, 269.0, 174.0)
LANDMARKS = ((202.5, 102.0), (245.0, 104.0), (225.0, 127.0), (204.5, 142.5), (242.0, 141.5))


@cache
def detector() -> Detector:
    return open_detector("mien", torch.device("cpu"))


def portrait() -> Image:
    return np.asarray(data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]  # it has no annotations


def scaled(image: Image, scale: float) -> Image:
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def assert_same(a: Detections, b: Detections, tolerance: float = 1e-2) -> None:
    assert len(a) == len(b)
    assert np.allclose(a.boxes, b.boxes, atol=tolerance)
    assert np.allclose(a.scores, b.scores, atol=1e-4)
    assert a.landmarks is not None
    assert b.landmarks is not None
    assert np.allclose(a.landmarks, b.landmarks, atol=tolerance)


def test_the_astronauts_face_is_found_once_and_in_place() -> None:
    """One certain face; its box and its landmarks are hers."""
    (found,) = detector().detect([portrait()], None)
    assert len(found) == 1
    assert found.boxes[0] == pytest.approx(FACE, abs=9)
    assert found.landmarks is not None
    assert found.landmarks[0] == pytest.approx(np.array(LANDMARKS), abs=7)


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.9])
def test_boxes_are_in_the_images_own_pixels(scale: float) -> None:
    """The same picture at another size has the same face, that many times as large."""
    (found,) = detector().detect([scaled(portrait(), scale)], None)
    assert len(found) == 1
    assert found.boxes[0] / scale == pytest.approx(FACE, abs=12)


def test_a_mirrored_face_has_mirrored_landmarks() -> None:
    """The right eye is the person's, also in a mirror."""
    (found,) = detector().detect([np.ascontiguousarray(portrait()[:, ::-1])], None)
    assert found.landmarks is not None
    mirrored = [(512 - x, y) for x, y in (LANDMARKS[i] for i in (1, 0, 2, 4, 3))]
    assert found.landmarks[0] == pytest.approx(np.array(mirrored), abs=7)


@pytest.mark.parametrize("image", [np.zeros((360, 640, 3)), np.full((360, 640, 3), 200), np.full((1, 1, 3), 90)])
def test_a_plain_image_has_no_face(image: np.ndarray) -> None:
    """Nothing is found in nothing."""
    (found,) = detector().detect([image.astype(np.uint8)], None)
    assert len(found) == 0


@pytest.mark.parametrize("batch", [1, 2, 3, 16])
def test_batches_change_nothing(batch: int) -> None:
    """Frames together, alone, in other groups, of mixed sizes: each gets its own faces, in order."""
    made = open_detector("mien", torch.device("cpu"))
    made.batch = batch
    a, b, wide = portrait(), np.ascontiguousarray(portrait()[:, ::-1]), scaled(portrait(), 0.5)
    images = [a, b, wide, a, a, b, a, a, wide, wide]
    together = made.detect(images, None)
    assert len(together) == len(images)
    for image, found in zip(images, together, strict=True):
        (alone,) = detector().detect([image], None)
        assert len(alone) == 1
        assert_same(found, alone)


def test_a_second_look_without_memory_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frame by frame it may fit; where even one does not, the error is the one that jobs name."""
    made = open_detector("mien", torch.device("cpu"))
    assert isinstance(made, Mien)
    assert made._refiner is not None
    made.batch = 4
    refine = made._refiner.refine

    def narrow(images: Sequence[Image], found: Sequence[Detections]) -> list[Detections]:
        if len(images) > 1:
            raise torch.OutOfMemoryError
        return refine(images, found)

    monkeypatch.setattr(made._refiner, "refine", narrow)
    for found in made.detect([portrait()] * 4, None):
        assert_same(found, detector().detect([portrait()], None)[0])

    def never(images: Sequence[Image], found: Sequence[Detections]) -> list[Detections]:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(made._refiner, "refine", never)
    with pytest.raises(OutOfDeviceMemoryError):
        made.detect([portrait()], None)


def test_no_images_no_answers() -> None:
    """An empty list is answered with one."""
    assert detector().detect([], None) == []


def test_min_score_is_the_callers() -> None:
    """A higher threshold keeps the certain ones, one above every score keeps none, a low one may add."""
    (own,) = detector().detect([portrait()], None)
    (none,) = detector().detect([portrait()], 0.999)
    (many,) = detector().detect([portrait()], 0.05)
    assert len(none) == 0
    assert len(many) >= len(own) == 1
    assert (many.scores >= 0.05).all()


def test_reduced_sizes_keep_at_least_a_pixel() -> None:
    """The longer side becomes 640, small images stay, and a line does not vanish."""
    assert reduced_size(1080, 1920, 640) == (360, 640)
    assert reduced_size(270, 480, 640) == (270, 480)
    assert reduced_size(1, 4000, 640) == (1, 640)


@pytest.mark.gpu
@pytest.mark.parametrize("scale", [0.5, 1.9])
def test_a_gpu_finds_the_same(scale: float) -> None:
    """The same faces, as exactly as half precision and another way to reduce a frame allow, in several batches."""
    image = scaled(portrait(), scale)
    images = [image, np.zeros_like(image), np.ascontiguousarray(image[:, ::-1])]
    on_gpu = open_detector("mien", torch.device("cuda:0"))
    assert isinstance(on_gpu, Mien)
    found = on_gpu.detect(images * on_gpu.batch, None)
    expected = detector().detect(images, None)
    for i, faces in enumerate(found):
        known = expected[i % len(images)]
        assert len(faces) == len(known)
        assert faces.landmarks is not None
        assert known.landmarks is not None
        assert faces.boxes / scale == pytest.approx(known.boxes / scale, abs=3)
        assert faces.landmarks / scale == pytest.approx(known.landmarks / scale, abs=3)
        assert faces.scores == pytest.approx(known.scores, abs=0.03)
