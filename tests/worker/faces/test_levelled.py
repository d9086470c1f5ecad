"""Faces are looked at again, in several views, with the picture turned until they are level."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from worker.core.affine import MIRRORED
from worker.core.picture import Shown, whole
from worker.core.records import Detections, Image
from worker.faces.levelled import VIEWS, Levelled
from worker.inference.detectors import open_detector

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))  # of the five landmarks
UPRIGHT = np.array([[-20, -15], [20, -15], [0, 5], [-15, 25], [15, 25]], np.float32)
CENTRE = np.array([150, 130], np.float32)
BESIDE = np.array([9, -6], np.float32)  # where leaning landmarks are put, in pixels off


class Dots:
    """Finds five coloured dots: exactly where they stand level, beside them where they lean by more than 8 degrees."""

    name, batch = "dots", 1

    def __init__(self) -> None:
        self.asked = 0

    def detect(
        self, images: Sequence[Shown], min_score: float | None, *, frame_side_px: int | None = None
    ) -> list[Detections]:
        self.asked += 1
        return [self._found(whole(image)) for image in images]

    def _found(self, image: Image) -> Detections:
        marks = []
        for colour in COLOURS:
            ys, xs = np.nonzero((np.abs(image.astype(int) - colour) < 90).all(axis=2))
            if not len(xs):
                return Detections.none()
            marks.append([xs.mean(), ys.mean()])
        found = np.array(marks, np.float32)
        if found[0, 0] > found[1, 0]:  # a mirrored face is a face whose right eye is the other one
            found = found[list(MIRRORED)]
        lean = np.degrees(np.arctan2(*(found[1] - found[0])[::-1]))
        middle, size = found.mean(axis=0), float(np.ptp(found, axis=0).max())
        box = np.concatenate([middle - size, middle + size])[None].astype(np.float32)
        return Detections(box, np.ones(1, np.float32), (found + BESIDE * (abs(lean) > 8))[None])


class Unsteady(Dots):
    """Every so many answers lie far beside the dots."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every

    def detect(
        self, images: Sequence[Shown], min_score: float | None, *, frame_side_px: int | None = None
    ) -> list[Detections]:
        answers = super().detect(images, min_score)
        if self.asked % self.every or self.asked == 1:
            return answers
        return [Detections(a.boxes, a.scores, a.landmarks + 25) for a in answers]


class Once(Dots):
    """Answers the first time only."""

    def detect(
        self, images: Sequence[Shown], min_score: float | None, *, frame_side_px: int | None = None
    ) -> list[Detections]:
        answers = super().detect(images, min_score)
        return answers if self.asked == 1 else [Detections.none() for _ in images]


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
    assert np.abs(plain.landmarks[0] - marks).max() > 5
    assert found.landmarks[0] == pytest.approx(marks, abs=1.5)
    assert np.array_equal(found.boxes, plain.boxes)


def test_views_that_disagree_are_outvoted() -> None:
    """Every third view shows the landmarks somewhere else; the median does not follow them."""
    picture, marks = leaning(0.0)
    detector = Unsteady(every=3)
    (found,) = Levelled(detector).detect([picture], None)
    assert found.landmarks[0] == pytest.approx(marks, abs=1.5)
    assert detector.asked == 1 + len(VIEWS)


def test_a_face_that_few_views_show_keeps_its_landmarks() -> None:
    """The detector's own answer is better than none."""
    picture, _ = leaning(30.0)
    (plain,) = Dots().detect([picture], None)
    (found,) = Levelled(Once()).detect([picture], None)
    assert found.landmarks.tolist() == plain.landmarks.tolist()


def test_pictures_without_a_face_stay_so() -> None:
    """Nothing to turn."""
    (found,) = Levelled(Dots()).detect([np.zeros((40, 50, 3), np.uint8)], None)
    assert not len(found)


def test_it_is_opened_by_name() -> None:
    """Around any other detector."""
    assert open_detector("levelled:yunet", "cpu").name == "levelled:yunet"
