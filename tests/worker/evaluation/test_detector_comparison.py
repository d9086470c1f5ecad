"""Comparing detectors: what counts as found, as false and as an error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from worker.core.picture import Shown, whole
from worker.core.records import CroppedFace, CroppedFrame, Detections, LabelledFrame
from worker.evaluation.detector_comparison import Tally, compare, count, landmark_error, same_labels

MARKS = np.array([[2, 3], [8, 3], [5, 5], [3, 8], [7, 8]], np.float32)


def faces(*rows: tuple[float, float, float, float]) -> Detections:
    """Square faces: x, y, side, score; landmarks in proportion."""
    boxes = np.array([(x, y, x + side, y + side) for x, y, side, _ in rows], np.float32).reshape(-1, 4)
    marks = np.array([np.array([x, y]) + MARKS * side / 10 for x, y, side, _ in rows], np.float32).reshape(-1, 5, 2)
    return Detections(boxes, np.array([row[3] for row in rows], np.float32), marks)


def tally_of(found: Detections, reference: Detections) -> Tally:
    tally = Tally()
    count(tally, found, reference, min_face_px=24)
    return tally


def test_a_face_counts_only_where_the_reference_is_sure_and_it_is_wide_enough() -> None:
    """Doubtful faces are neither; small ones are counted apart."""
    reference = faces((0, 0, 40, 0.9), (100, 0, 40, 0.5), (200, 0, 20, 0.9))
    tally = tally_of(faces((0, 0, 40, 0.6), (200, 0, 20, 0.6)), reference)
    assert (tally.faces, tally.found, tally.small_faces, tally.small_found) == (1, 1, 1, 1)
    assert tally.figures()["recall"] == 1.0


def test_a_box_beside_the_face_does_not_find_it() -> None:
    """An overlap below the limit is no match."""
    tally = tally_of(faces((25, 0, 40, 0.9)), faces((0, 0, 40, 0.9)))
    assert (tally.faces, tally.found) == (1, 0)


def test_a_box_is_false_only_where_the_reference_has_nothing_at_all() -> None:
    """A doubtful or small face of the reference excuses a box there; a narrow box never counts."""
    reference = faces((100, 0, 40, 0.35), (200, 0, 20, 0.9))
    found = faces((100, 0, 40, 0.9), (200, 0, 24, 0.9), (300, 0, 40, 0.9), (400, 0, 20, 0.9))
    assert tally_of(found, reference).false_boxes == 1
    assert tally_of(found, faces()).false_boxes == 3


def test_landmark_errors_are_in_eye_distances() -> None:
    """Every landmark one tenth of the eyes' distance off is an error of one tenth."""
    assert landmark_error(MARKS + np.array([0.6, 0]), MARKS) == pytest.approx(0.1)
    tally = tally_of(faces((2.4, 0, 40, 0.9)), faces((0, 0, 40, 0.9)))
    assert tally.errors == pytest.approx([0.1])


def test_nothing_to_divide_by_is_none() -> None:
    """A clip without a face has no recall, and frames without anything have no figures."""
    figures = tally_of(faces(), faces()).figures()
    assert (figures["recall"], figures["landmark_error"], figures["false_boxes_a_frame"]) == (None, None, 0)
    assert Tally().figures()["detector_ms"] is None


class Fixed:
    """Finds one face whose left edge is the first pixel's value, and counts calls."""

    def __init__(self, batch: int) -> None:
        self.name, self.batch = "fixed", batch
        self.asked: list[int] = []

    def detect(
        self, images: Sequence[Shown], min_score: float | None, *, frame_side_px: int | None = None
    ) -> list[Detections]:
        self.asked.append(len(images))
        return [faces((float(whole(image)[0, 0, 0]), 0, 40, 0.9)) for image in images]


def test_every_frame_is_seen_by_both_in_batches_of_their_own() -> None:
    """Frames are paired whatever batches the detectors like, and each frame has a time of its own."""
    frames = [np.full((4, 4, 3), 10 * i, np.uint8) for i in range(11)]
    ours, theirs = Fixed(3), Fixed(1)
    tally = compare(ours, theirs, frames, min_face_px=24)
    assert (tally.frames, tally.faces, tally.found) == (11, 11, 11)
    assert len(tally.detector_ms) == len(tally.reference_ms) == 11
    assert ours.asked == [2, 3, 3, 2, 3]  # the first two warm it up
    assert max(theirs.asked[1:]) == 1


def labelled(*rows: tuple[float, int]) -> LabelledFrame:
    """A frame with faces at x, each with its label's index."""
    crop = np.zeros((1, 1, 1), np.uint8)
    cropped = tuple(CroppedFace(i, (x, 0, 40, 40), 0.9, crop) for i, (x, _) in enumerate(rows))
    fused = np.array([np.eye(3)[label] for _, label in rows], np.float32).reshape(-1, 3)
    return LabelledFrame(CroppedFrame(0, 0, cropped, ()), fused, fused[None])


def test_labels_are_compared_face_by_face() -> None:
    """Only faces that both found count, whatever order they come in."""
    ours = [labelled((0, 1), (100, 2), (300, 0)), labelled((0, 1))]
    theirs = [labelled((100, 2), (0, 0)), labelled()]
    assert same_labels(ours, theirs) == (1, 2)
