"""Landmarks are moved in the face's own frame, however it stands in the picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from worker.core.affine import moved, similarity
from worker.core.records import Detections, Floats
from worker.faces.refinement import MOST_FACES, USUAL, RefinementNet, RefinementSizes, Refiner

SIZES = RefinementSizes((4, 4, 4, 4, 4), 2)
CPU = torch.device("cpu")


def stored(net: RefinementNet) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in net.state_dict().items() if "num_batches" not in key}


def weights(offsets: Floats) -> dict[str, np.ndarray]:
    """Of a network that answers these offsets (5, 2) for every face."""
    net = RefinementNet(SIZES)
    with torch.no_grad():
        net.places.weight.zero_()
        net.places.bias.copy_(torch.from_numpy(offsets.reshape(-1)))
    return stored(net)


def face(centre: tuple[float, float], side: float, degrees: float) -> tuple[Floats, np.ndarray]:
    """Landmarks (5, 2) of an upright, usual face, put there; and the map that put it."""
    how = similarity((0.5, 0.5), centre, (side, side), degrees)
    return moved(USUAL, how).astype(np.float32), how


def detections(*landmarks: Floats) -> Detections:
    marks = np.array(landmarks, np.float32).reshape(-1, 5, 2)
    boxes = np.concatenate([marks.min(axis=1), marks.max(axis=1)], axis=1)
    return Detections(boxes, np.linspace(0.9, 0.5, len(marks), dtype=np.float32), marks)


@pytest.mark.parametrize("degrees", [0.0, -35.0, 120.0])
@pytest.mark.parametrize("side", [20.0, 300.0])
def test_offsets_turn_and_grow_with_the_face(side: float, degrees: float) -> None:
    """What the network answers is in sides of the upright view; boxes and scores are left alone."""
    offsets = np.random.default_rng(1).normal(0, 0.05, (5, 2)).astype(np.float32)
    marks, how = face((310.0, 190.0), side, degrees)
    before = detections(marks)
    (found,) = Refiner(SIZES, weights(offsets), CPU).refine([np.zeros((360, 640, 3), np.uint8)], [before])
    assert found.landmarks is not None
    assert found.landmarks[0] == pytest.approx(moved(USUAL + offsets, how), abs=side * 1e-3)
    assert np.array_equal(found.boxes, before.boxes)
    assert np.array_equal(found.scores, before.scores)


def test_every_face_of_every_frame_gets_its_own() -> None:
    """More faces than fit into a batch, frames without any, frames of other sizes: none is mixed up."""
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 256, (90 + 10 * i, 160, 3), np.uint8) for i in range(4)]
    counts = (MOST_FACES - 3, 0, 9, 1)
    found = [
        detections(*(face(tuple(rng.uniform(20, 80, 2)), rng.uniform(20, 60), rng.normal(0, 20))[0] for _ in range(n)))
        for n in counts
    ]
    torch.manual_seed(3)
    refiner = Refiner(SIZES, stored(RefinementNet(SIZES).eval()), CPU)
    together = refiner.refine(images, found)
    assert tuple(len(faces) for faces in together) == counts
    for image, before, after in zip(images, found, together, strict=True):
        for i in range(len(before)):
            (alone,) = refiner.refine([image], [before.take(np.array([i]))])
            assert alone.landmarks is not None
            assert after.landmarks is not None
            assert after.landmarks[i] == pytest.approx(alone.landmarks[0], abs=1e-2)
            assert before.landmarks is not None
            assert np.abs(after.landmarks[i] - before.landmarks[i]).max() > 0.1


def test_landmarks_in_one_place_stay_there() -> None:
    """They say nothing of the face; the face beside it is moved all the same."""
    marks, how = face((60.0, 50.0), 40.0, 0.0)
    offsets = np.full((5, 2), 0.1, np.float32)
    before = detections(np.full((5, 2), 30.0, np.float32), marks)
    (found,) = Refiner(SIZES, weights(offsets), CPU).refine([np.zeros((90, 120, 3), np.uint8)], [before])
    assert found.landmarks is not None
    assert found.landmarks[0].tolist() == np.full((5, 2), 30.0).tolist()
    assert found.landmarks[1] == pytest.approx(moved(USUAL + offsets, how), abs=0.05)


def test_weights_of_other_sizes_are_refused() -> None:
    """Nothing is guessed."""
    with pytest.raises(RuntimeError, match="size mismatch"):
        Refiner(RefinementSizes(), weights(np.zeros((5, 2), np.float32)), CPU)


@pytest.mark.gpu
def test_a_gpu_answers_as_a_cpu() -> None:
    """The same landmarks for every number of faces, padded up or not."""
    rng = np.random.default_rng(4)
    image = rng.integers(0, 256, (160, 160, 3), np.uint8)
    torch.manual_seed(5)
    kept = stored(RefinementNet(SIZES).eval())
    on_cpu, on_gpu = (Refiner(SIZES, kept, torch.device(name)) for name in ("cpu", "cuda:0"))
    for count in (1, 3, MOST_FACES, MOST_FACES + 2):
        marks = [face(tuple(rng.uniform(40, 120, 2)), 50, rng.normal(0, 20))[0] for _ in range(count)]
        (expected,), (found,) = (refiner.refine([image], [detections(*marks)]) for refiner in (on_cpu, on_gpu))
        assert found.landmarks is not None
        assert found.landmarks == pytest.approx(expected.landmarks, abs=0.1)
