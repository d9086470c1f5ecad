"""A network scans frames of any size, in any groups, and its faces are in the frames' own pixels."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from model_store.detector import DETECTORS_DIR, load_detector
from tests.worker.faces.pictures import FACE, LANDMARKS, portrait, scaled, turned
from worker.core.records import Detections, Image
from worker.faces.networks import MULTIPLE, NETWORKS, FaceNetwork
from worker.faces.networks.cells import Array, Candidates
from worker.faces.running import Running, Weights, run_on
from worker.faces.scanning import Scanner, reduced_size

NAMES = sorted(NETWORKS)


@cache
def running(name: str) -> Running:
    stored = load_detector(DETECTORS_DIR / name)
    return run_on(Weights(stored.manifest.network, stored.tensors, stored.graph), "cpu")


def scanner(name: str, batch: int = 1) -> Scanner:
    return Scanner(running(name), batch)


class Corners:
    """Finds one face: between the white pixel's corner and the input's middle; notes what it is given."""

    kind = FaceNetwork("corners", lambda maps, _: Corners.decode(maps[0]), 0.5, 0.3)

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def maps(self, pixels: npt.NDArray[np.uint8]) -> list[Array]:
        self.shapes.append(pixels.shape)
        return [pixels.astype(np.float32)]

    @staticmethod
    def decode(pixels: Array) -> Candidates:
        images, ys, xs = np.nonzero(pixels[..., 0] > 128)
        boxes = np.stack([xs, ys, xs + 8, ys + 8], axis=1).astype(np.float32)
        return Candidates(images, np.full(len(xs), 0.9, np.float32), boxes, np.repeat(boxes[:, None, :2], 5, axis=1))


def spot(height: int, width: int, x: int, y: int, side: int = 1) -> Image:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[y : y + side, x : x + side] = 255
    return picture


@pytest.mark.parametrize(("height", "width"), [(1, 1), (31, 33), (360, 640), (270, 480), (64, 64)])
def test_the_network_gets_sides_that_it_can_halve(height: int, width: int) -> None:
    """Black is added below and to the right, so boxes of small frames stay where they are."""
    network = Corners()
    (found,) = Scanner(network, 1).detect([spot(height, width, width - 1, height - 1)], None)
    ((count, *sides, channels),) = network.shapes
    assert (count, channels) == (1, 3)
    assert all(side % MULTIPLE == 0 for side in sides)
    assert sides == [height + -height % MULTIPLE, width + -width % MULTIPLE]
    assert found.boxes[0].tolist() == [width - 1, height - 1, width + 7, height + 7]


def test_a_large_frame_is_reduced_and_its_boxes_are_not() -> None:
    """The longer side becomes 640 pixels; boxes and landmarks come back in the frame's."""
    network = Corners()
    (found,) = Scanner(network, 1).detect([spot(1080, 1920, 900, 600, side=3)], None)
    assert network.shapes == [(1, 384, 640, 3)]
    assert found.boxes[0].tolist() == [900, 600, 924, 624]
    assert found.landmarks[0, 0].tolist() == [900, 600]


def test_a_part_is_scanned_in_the_size_that_it_has_in_the_frame() -> None:
    """A quarter of a large frame is reduced as the frame is; without the frame's side it would not be."""
    network = Corners()
    scan = Scanner(network, 1)
    part = spot(300, 480, 90, 60, side=3)
    (found,) = scan.detect([part], None, frame_side_px=1920)
    (alone,) = scan.detect([part], None)
    assert network.shapes == [(1, 128, 160, 3), (1, 320, 480, 3)]
    assert found.boxes[0].tolist() == [90, 60, 114, 84]
    assert alone.boxes[0, :2].tolist() == [90, 60]


@pytest.mark.parametrize("name", NAMES)
def test_a_part_has_the_faces_of_the_frame(name: str) -> None:
    """At the frame's scale a face has the same box and score there, whole strides away from the corner."""
    frame = scaled(turned(0)[0], 2)
    (of_frame,) = scanner(name).detect([frame], None)
    (of_part,) = scanner(name).detect([frame[240:960, 240:960]], None, frame_side_px=1200)
    assert len(of_frame) == len(of_part) == 1
    assert of_part.boxes[0] + 240 == pytest.approx(of_frame.boxes[0], abs=12)
    assert of_part.scores[0] == pytest.approx(of_frame.scores[0], abs=0.1)


def test_sizes_keep_at_least_a_pixel_and_never_grow() -> None:
    """A line does not vanish, and a small frame stays as it is."""
    assert reduced_size(1080, 1920, 640 / 1920) == (360, 640)
    assert reduced_size(270, 480, 640 / 480) == (270, 480)
    assert reduced_size(1, 4000, 640 / 4000) == (1, 640)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.9])
@pytest.mark.parametrize("name", NAMES)
def test_the_astronauts_face_is_found_once_and_in_place(name: str, scale: float) -> None:
    """One face in the picture at any size, as large as there, its landmarks in the order of records."""
    (found,) = scanner(name).detect([scaled(portrait(), scale)], None)
    assert len(found) == 1
    assert found.boxes[0] / scale == pytest.approx(FACE, abs=16)
    assert found.landmarks[0] / scale == pytest.approx(LANDMARKS, abs=8)


@pytest.mark.parametrize("name", NAMES)
def test_a_mirrored_face_has_mirrored_landmarks(name: str) -> None:
    """The right eye is the person's, also in a mirror."""
    image, marks = turned(0, mirrored=True)
    (found,) = scanner(name).detect([image], None)
    assert found.landmarks[0] == pytest.approx(marks, abs=8)


@pytest.mark.parametrize("image", [np.zeros((360, 640, 3)), np.full((360, 640, 3), 200), np.full((1, 1, 3), 90)])
@pytest.mark.parametrize("name", NAMES)
def test_a_plain_image_has_no_face(name: str, image: np.ndarray) -> None:
    """Nothing is found in nothing."""
    (found,) = scanner(name).detect([image.astype(np.uint8)], None)
    assert len(found) == 0


@pytest.mark.parametrize("batch", [1, 2, 3, 16])
def test_batches_change_nothing(batch: int) -> None:
    """Frames together, alone, in other groups, of mixed sizes: each gets its own faces, in order."""
    a, b, small = portrait(), np.ascontiguousarray(portrait()[:, ::-1]), scaled(portrait(), 0.5)
    images = [a, b, small, a, a, b, np.zeros_like(a), a, small, small]
    together = scanner("yunet", batch).detect(images, None)
    assert len(together) == len(images)
    for image, found in zip(images, together, strict=True):
        (alone,) = scanner("yunet").detect([image], None)
        assert len(found) == len(alone) == int(image.any())
        assert found.boxes == pytest.approx(alone.boxes, abs=1e-2)
        assert found.landmarks == pytest.approx(alone.landmarks, abs=1e-2)


def test_frames_of_one_size_go_through_together() -> None:
    """Groups end at the batch and where the size changes."""
    network = Corners()
    frames = [np.zeros((32, side, 3), np.uint8) for side in (32, 32, 32, 64, 32)]
    assert len(Scanner(network, 2).detect(frames, None)) == len(frames)
    assert [shape[0] for shape in network.shapes] == [2, 1, 1, 1]


def test_no_images_no_answers() -> None:
    """An empty list is answered with one."""
    assert scanner("yunet").detect([], None) == []


@pytest.mark.parametrize("name", NAMES)
def test_min_score_is_the_callers(name: str) -> None:
    """A higher threshold keeps the certain ones, one above every score keeps none, a low one may add."""
    own, none, many = (scanner(name).detect([portrait()], score)[0] for score in (None, 0.9999, 0.05))
    assert len(none) == 0
    assert len(many) >= len(own) == 1
    assert (many.scores >= 0.05).all()
    assert own.scores[0] >= running(name).kind.min_score


def test_the_best_of_several_candidates_for_a_face_is_kept() -> None:
    """Candidates that overlap are one face, the most certain one, with its own landmarks; best first."""

    class Three(Corners):
        kind = FaceNetwork("three", lambda *_: Three.found(), 0.5, 0.3)

        @staticmethod
        def found() -> Candidates:
            low = np.array([[30, 30], [32, 30], [130, 30]], np.float32)
            scores = np.array([0.7, 0.8, 0.9], np.float32)
            marks = np.repeat(low[:, None], 5, axis=1)
            return Candidates(np.zeros(3, np.int64), scores, np.hstack([low, low + 40]), marks)

    (found,) = Scanner(Three(), 1).detect([np.zeros((96, 192, 3), np.uint8)], None)
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
    assert found.boxes[:, 0].tolist() == [130, 32]
    assert found.landmarks[:, 0, 0].tolist() == [130, 32]
    assert isinstance(found, Detections)
