"""Faces that lean are looked at again with the picture turned."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import torch

from worker.detectors import open_detector
from worker.faces.levelled import Levelled
from worker.records import Detections, Image

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))  # of the five landmarks
UPRIGHT = np.array([[-20, -15], [20, -15], [0, 5], [-15, 25], [15, 25]], np.float32)
CENTRE = np.array([150, 130], np.float32)
BESIDE = np.array([9, -6], np.float32)  # where leaning landmarks are put, in pixels off


class Dots:
    """Finds five coloured dots: exactly where they stand level, beside them where they lean by more than 8 degrees."""

    name, batch = "dots", 1

    def __init__(self) -> None:
        self.asked = 0

    def detect(self, images: Sequence[Image], min_score: float | None) -> list[Detections]:
        self.asked += 1
        return [self._found(image) for image in images]

    def _found(self, image: Image) -> Detections:
        marks = []
        for colour in COLOURS:
            ys, xs = np.nonzero((np.abs(image.astype(int) - colour) < 90).all(axis=2))
            if not len(xs):
                return Detections.none()
            marks.append([xs.mean(), ys.mean()])
        found = np.array(marks, np.float32)
        lean = np.degrees(np.arctan2(*(found[1] - found[0])[::-1]))
        middle, size = found.mean(axis=0), float(np.ptp(found, axis=0).max())
        box = np.concatenate([middle - size, middle + size])[None].astype(np.float32)
        return Detections(box, np.ones(1, np.float32), (found + BESIDE * (abs(lean) > 8))[None])


def leaning(degrees: float) -> tuple[Image, np.ndarray]:
    """Five dots that lean to the right, and where they are (5, 2)."""
    turn = np.deg2rad(degrees)
    marks = UPRIGHT @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + CENTRE
    picture = np.full((260, 320, 3), 120, np.uint8)
    for (x, y), colour in zip(marks, COLOURS, strict=True):
        cv2.circle(picture, (round(float(x)), round(float(y))), 4, colour, -1)
    return np.asarray(picture, np.uint8), marks


@pytest.mark.parametrize("degrees", [-35.0, 20.0, 40.0])
def test_landmarks_of_leaning_faces_are_those_of_the_levelled_one(degrees: float) -> None:
    """In pixels of the picture as it was; box and score stay."""
    picture, marks = leaning(degrees)
    (plain,) = Dots().detect([picture], None)
    (found,) = Levelled(Dots()).detect([picture], None)
    assert plain.landmarks is not None
    assert found.landmarks is not None
    assert np.abs(plain.landmarks[0] - marks).max() > 5
    assert found.landmarks[0] == pytest.approx(marks, abs=1.5)
    assert np.array_equal(found.boxes, plain.boxes)


def test_level_faces_are_not_asked_for_again() -> None:
    """One detection is enough, and its answer is the detector's own."""
    detector = Dots()
    picture, _ = leaning(1.0)
    (found,) = Levelled(detector).detect([picture], None)
    assert detector.asked == 1
    (plain,) = Dots().detect([picture], None)
    assert found.landmarks is not None
    assert found.landmarks.tolist() == (plain.landmarks if plain.landmarks is not None else np.empty(0)).tolist()


def test_pictures_without_a_face_stay_so() -> None:
    """Nothing to turn."""
    (found,) = Levelled(Dots()).detect([np.zeros((40, 50, 3), np.uint8)], None)
    assert not len(found)


def test_it_is_opened_by_name() -> None:
    """Around any other detector."""
    assert open_detector("levelled:mien", torch.device("cpu")).name == "levelled:mien"
