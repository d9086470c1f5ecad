"""A look at single faces finds their features wherever the face leans, from wherever they were thought to be."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from model_store.detector import DETECTORS_DIR, load_detector
from tests.worker.faces.pictures import FACE, portrait, scaled, turned
from worker.core.records import Detections
from worker.faces.looking import MOST_VIEWS, UPRIGHT, VIEWS, Look, upright_landmarks
from worker.faces.running import Weights, run_on


@cache
def look() -> Look:
    stored = load_detector(DETECTORS_DIR / "yunet")
    return Look(run_on(Weights(stored.manifest.network, stored.tensors, stored.graph), "cpu"))


def around(*marks: np.ndarray) -> Detections:
    """Faces with these landmarks (5, 2), in boxes around them."""
    landmarks = np.array(marks, np.float32).reshape(-1, 5, 2)
    middle, side = landmarks.mean(axis=1), np.ptp(landmarks, axis=1).max(axis=1)[:, None]
    return Detections(np.hstack([middle - side, middle + side]), np.full(len(landmarks), 0.9, np.float32), landmarks)


def eyes(marks: np.ndarray) -> float:
    return float(np.hypot(*(marks[0] - marks[1])))


def error(found: np.ndarray, true: np.ndarray) -> float:
    """Mean distance in eye distances."""
    return float(np.hypot(*(found - true).T).mean()) / eyes(true)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 20, -40, 60])
def test_landmarks_come_back_from_disturbed_ones(degrees: float, mirrored: bool) -> None:
    """However the face leans: to within a tenth of the eye distance, from starts two tenths off."""
    image, true = turned(degrees, mirrored=mirrored)
    rng = np.random.default_rng(int(degrees) + 100)
    # Each landmark off for itself, and all of them together.
    off = rng.normal(0, 0.1, (20, 5, 2)) + rng.normal(0, 0.15, (20, 1, 2))
    starts = true + off * eyes(true)
    found = look().at(image, around(*starts))
    assert (found.scores > 0.8).all()
    before, after = ([error(marks, true) for marks in given] for given in (starts, found.landmarks))
    assert np.mean(before) > 0.18
    assert np.mean(after) < 0.1
    assert max(after) < 0.15
    assert found.landmarks.std(axis=0).max() < 0.06 * eyes(true)  # wherever one begins


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
def test_a_face_of_any_size_has_its_box(scale: float) -> None:
    """In the frame's pixels, around the upright face."""
    image, true = turned(0)
    found = look().at(scaled(image, scale), around(true * scale))
    middle = np.array([300, 300])
    size = np.array([FACE[2] - FACE[0], FACE[3] - FACE[1]])
    expected = np.concatenate([middle - size / 2, middle + size / 2])
    assert found.boxes[0] / scale == pytest.approx(expected, abs=12)


def test_a_leaning_face_has_the_box_of_the_upright_one() -> None:
    """The same size around the same middle, so that a box does not jump when a head leans."""
    upright, leaning = (look().at(turned(degrees)[0], around(turned(degrees)[1])).boxes[0] for degrees in (0, 30))
    assert leaning == pytest.approx(upright, abs=8)


def test_what_is_no_face_scores_nothing_and_stays() -> None:
    """A plain place, a place beside the frame, and a textured one without a face."""
    image = turned(0)[0]
    image[400:, :200] = 90
    marks = UPRIGHT * 60
    faces = around(*(marks + np.array(place) for place in ((100, 500), (2000, 40), (560, 560))))
    found = look().at(image, faces)
    assert found.scores.tolist() == [0, 0, 0]
    assert np.array_equal(found.boxes, faces.boxes)
    assert np.array_equal(found.landmarks, faces.landmarks)


def test_faces_keep_their_order() -> None:
    """More than go through the network at once, unseen ones between: each gets what it gets alone."""
    image, true = turned(10)
    wide = np.ascontiguousarray(np.hstack([image, np.full_like(image, 80), image]))
    places = [0, 600, 1200] * 9
    assert len(places) * len(VIEWS) > MOST_VIEWS
    found = look().at(wide, around(*(true + np.array((x, 0)) for x in places)))
    alone = {x: look().at(wide, around(true + np.array((x, 0)))) for x in set(places)}
    assert [score > 0 for score in found.scores] == [x != 600 for x in places]
    for i, x in enumerate(places):
        assert found.boxes[i] == pytest.approx(alone[x].boxes[0], abs=1e-2)
        assert found.landmarks[i] == pytest.approx(alone[x].landmarks[0], abs=1e-2)
        assert found.scores[i] == pytest.approx(alone[x].scores[0], abs=1e-3)


def test_one_view_sees_nearly_as_well() -> None:
    """Each of them, mirrored ones too: a right eye stays the person's."""
    image, true = turned(-15)
    for view in VIEWS:
        found = look().at(image, around(true + 3), [view])
        assert found.scores[0] > 0.5
        assert error(found.landmarks[0], true) < 0.12


def test_landmarks_in_one_place_say_nothing_and_the_box_is_looked_at() -> None:
    """A face of a detector without landmarks, upright, is found by its box."""
    image, true = turned(0)
    faces = around(true)
    (boxes, scores) = (faces.boxes, faces.scores)
    found = look().at(image, Detections(boxes, scores, np.full((1, 5, 2), 300, np.float32)))
    assert found.scores[0] > 0.5
    assert error(found.landmarks[0], true) < 0.1


def test_no_faces_no_look() -> None:
    """Nothing is answered with nothing."""
    assert len(look().at(portrait(), Detections.none())) == 0


def test_upright_landmarks_scale_with_the_box() -> None:
    """They lie around its middle, in its widths."""
    boxes = np.array([[0, 0, 100, 120], [200, 100, 220, 124]], np.float32)
    marks = upright_landmarks(boxes)
    assert marks[0] == pytest.approx(UPRIGHT * 100 + np.array((50, 60)), abs=1e-3)
    assert marks[1] == pytest.approx(UPRIGHT * 20 + np.array((210, 112)), abs=1e-3)
