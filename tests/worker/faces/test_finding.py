"""A scan and a look together: what counts as a face, how often, and with what score."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.faces.pictures import FACE, LANDMARKS, portrait, turned
from worker.core.picture import Shown
from worker.core.records import Detections, Floats, Image
from worker.faces.finding import Finder, Judgement
from worker.faces.looking import VIEWS, Look, View, upright_landmarks
from worker.inference.detectors import open_finder

BLANK = np.zeros((64, 64, 3), np.uint8)


@cache
def default() -> Finder:
    return open_finder(None, "cpu")


def faces(*rows: tuple[float, float]) -> Detections:
    """Faces of 40 pixels at x, each with its score."""
    boxes = np.array([(x, 0, x + 40, 40) for x, _ in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([score for _, score in rows], np.float32), upright_landmarks(boxes))


class Scan:
    """Finds the same faces in every picture, those with the score; notes the scores that it is asked for."""

    name, batch = "scan", 3

    def __init__(self, found: Detections, own: float = 0.6) -> None:
        self.found, self.own, self.asked = found, own, list[float | None]()

    def detect(
        self, images: Sequence[Shown], min_score: float | None, *, frame_side_px: int | None = None
    ) -> list[Detections]:
        self.asked.append(min_score)
        lowest = self.own if min_score is None else min_score
        return [self.found.take(np.flatnonzero(self.found.scores >= lowest)) for _ in images]


class Seeing:
    """A look that moves each face to the nearest of these places, with that place's score; 0: not seen."""

    def __init__(self, *places: tuple[float, float]) -> None:
        self.places, self.views = places, list[Sequence[View]]()

    def at(self, image: Image, given: Detections, views: Sequence[View] = VIEWS) -> Detections:
        self.views.append(views)
        seen = [min(self.places, key=lambda place: abs(place[0] - x)) for x in given.boxes[:, 0].tolist()]
        moved = faces(*((place if place[1] else (x, 0.0)) for place, x in zip(seen, given.boxes[:, 0], strict=True)))
        return Detections(moved.boxes, moved.scores, moved.landmarks)


def finder(scan: Scan, *looks: Seeing, judgement: Judgement | None = None) -> Finder:
    first, second = (cast(Look, looks[i]) if i < len(looks) else None for i in (0, 1))
    assert first is not None
    return Finder(scan, first, judgement=judgement, second=second, name="tested")


def scores(*values: float) -> Floats:
    return np.array(values, np.float32)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_more_of_either_is_no_less_of_both(low: float, high: float, other: float) -> None:
    """The judgement never falls where a score rises, and stays in 0..1."""
    low, high = sorted((low, high))
    judge = Judgement()
    assert judge(scores(low), scores(other))[0] <= judge(scores(high), scores(other))[0] + 1e-6
    assert judge(scores(other), scores(low))[0] <= judge(scores(other), scores(high))[0] + 1e-6
    both = judge(scores(low, high), scores(high, low))
    assert ((both >= 0) & (both <= 1)).all()


def test_each_can_be_outvoted() -> None:
    """A weak scan with a sure look is a face; a strong scan that the look does not know is one; a weak one is none."""
    both = Judgement()(scores(0.2, 0.9, 0.2), scores(0.9, 0.0, 0.0))
    assert [score >= Judgement().min_score for score in both] == [True, True, False]


def test_the_scan_is_asked_for_more_than_counts() -> None:
    """Candidates from the judgement's own threshold on are looked at, and those whose joined score is enough stay."""
    scan, judge = Scan(faces((0, 0.2), (100, 0.2), (200, 0.05))), Judgement()
    (found,) = finder(scan, Seeing((0, 0.9), (100, 0.0), (200, 0.9)), judgement=judge).detect([BLANK], None)
    assert scan.asked == [judge.scanned_from]
    assert found.boxes[:, 0].tolist() == [0]
    assert found.scores[0] == pytest.approx(judge(scores(0.2), scores(0.9))[0])


@pytest.mark.parametrize("min_score", [None, 0.1, 0.6, 0.95])
def test_min_score_is_of_both_together(min_score: float | None) -> None:
    """The faces have the requested fields, best first."""
    rows = [(100.0 * i, float(score)) for i, score in enumerate(np.linspace(0.15, 0.9, 8))]
    (found,) = finder(Scan(faces(*rows)), Seeing(*((x, 0.7) for x, _ in rows)), judgement=Judgement()).detect(
        [BLANK], min_score
    )
    lowest = Judgement().min_score if min_score is None else min_score
    expected = Judgement()(scores(*(score for _, score in rows)), scores(*[0.7] * 8))
    assert len(found) == (expected >= lowest).sum()
    assert (found.scores >= lowest).all()
    assert (np.diff(found.scores) <= 0).all()


def test_candidates_that_come_to_lie_on_one_face_are_one() -> None:
    """The best of them; a face beside it stays."""
    scan = Scan(faces((0, 0.5), (14, 0.8), (100, 0.3)))
    (found,) = finder(scan, Seeing((4, 0.9), (100, 0.9)), judgement=Judgement()).detect([BLANK], None)
    assert found.boxes[:, 0].tolist() == [4, 100]
    assert found.scores[0] == pytest.approx(Judgement()(scores(0.8), scores(0.9))[0])


def test_without_a_judgement_the_scans_scores_stand() -> None:
    """The look moves boxes and landmarks alone; the scan's own threshold counts where none is asked for."""
    scan = Scan(faces((0, 0.7), (100, 0.9), (200, 0.4)))
    for min_score, expected in ((None, [0.7, 0.9]), (0.3, [0.7, 0.9, 0.4]), (0.8, [0.9])):
        (found,) = finder(scan, Seeing((5, 0.9), (100, 0.0), (200, 0.8))).detect([BLANK], min_score)
        assert found.scores.tolist() == pytest.approx(expected)
    assert scan.asked == [None, 0.3, 0.8]


def test_thresholds_are_shares_of_the_one_in_force() -> None:
    """The caller's, else the judgement's, else one that only the scan knows."""
    judged, plain = (finder(Scan(faces()), Seeing(), judgement=j) for j in (Judgement(min_score=0.4), None))
    assert judged.threshold(0.8, 0.5) == plain.threshold(0.8, 0.5) == 0.4
    assert judged.threshold(None, 0.5) == 0.2
    assert plain.threshold(None, 0.5) is None


def test_frames_are_answered_one_each() -> None:
    """Also in batches of the scan's, and where there are none."""
    made = finder(Scan(faces((0, 0.9))), Seeing((0, 0.9)), judgement=Judgement())
    assert (made.name, made.batch) == ("tested", 3)
    assert [len(found) for found in made.detect([BLANK] * 5, None)] == [1] * 5
    assert made.detect([], None) == []


def test_following_takes_one_view_after_the_other() -> None:
    """One a frame, all of them in turn; the scores are those of the scan that found the faces."""
    seeing = Seeing((6, 0.5), (100, 0.0))
    made = finder(Scan(faces()), seeing)
    for turn in range(2 * len(VIEWS)):
        found, seen = made.follow(BLANK, faces((0, 0.8), (100, 0.7)), turn)
        assert seen.tolist() == [True, False]
        assert found.boxes[:, 0].tolist() == [6, 100]
        assert found.scores.tolist() == pytest.approx([0.8, 0.7])
    assert [views[0] for views in seeing.views] == [*VIEWS, *VIEWS]
    assert all(len(views) == 1 for views in seeing.views)


def test_the_second_look_sees_what_the_first_does_not() -> None:
    """Only those faces are examined again; faces missed by both stay missed."""
    second = Seeing((104, 0.6), (200, 0.0))
    made = finder(Scan(faces()), Seeing((3, 0.5), (100, 0.0), (200, 0.0)), second)
    found, seen = made.follow(BLANK, faces((0, 0.9), (100, 0.9), (200, 0.9)), 0)
    assert seen.tolist() == [True, True, False]
    assert found.boxes[:, 0].tolist() == [3, 104, 200]
    assert len(second.views) == 1


@pytest.mark.parametrize("degrees", [0, -25, 40])
def test_the_default_finds_a_leaning_face(degrees: float) -> None:
    """Once, certainly, with its features where they are."""
    image, marks = turned(degrees)
    (found,) = default().detect([image], None)
    assert len(found) == 1
    assert found.scores[0] > 0.8
    eyes = float(np.hypot(*(marks[0] - marks[1])))
    assert float(np.hypot(*(found.landmarks[0] - marks).T).mean()) < 0.1 * eyes


def test_the_default_finds_nothing_in_plain_pictures() -> None:
    """Of any size."""
    for size in ((1, 1), (64, 64), (360, 640)):
        assert len(default().detect([np.full((*size, 3), 140, np.uint8)], None)[0]) == 0


def test_the_default_in_a_part_of_a_frame() -> None:
    """The part of a large frame has the face that the frame has."""
    image = np.zeros((1100, 1900, 3), np.uint8)
    image[300:812, 900:1412] = portrait()
    (of_frame,) = default().detect([image], None)
    (of_part,) = default().detect([image[250:900, 850:1500]], None, frame_side_px=1900)
    assert len(of_frame) == len(of_part) == 1
    assert of_frame.boxes[0] == pytest.approx(np.array(FACE) + np.tile((900, 300), 2), abs=16)
    assert of_part.boxes[0] + np.tile((850, 250), 2) == pytest.approx(of_frame.boxes[0], abs=10)
    assert of_frame.landmarks[0] == pytest.approx(LANDMARKS + np.array((900, 300)), abs=8)


def test_the_default_follows_a_face_that_moves() -> None:
    """From where it was, a seventh of its width away; where the face is gone it is not seen."""
    image, marks = turned(0)
    (known,) = default().detect([image], None)
    moved = np.roll(image, (8, 12), axis=(0, 1))
    errors, eyes = [], np.hypot(*(marks[0] - marks[1]))
    for turn in range(4):
        found, seen = default().follow(moved, known, turn)
        assert seen.tolist() == [True]
        errors.append(np.hypot(*(found.landmarks[0] - marks - np.array((12, 8))).T).mean() / eyes)
        _, seen = default().follow(np.full_like(image, 90), known, turn)
        assert seen.tolist() == [False]
    assert np.mean(errors) < 0.12  # a view alone is less exact than all of them
