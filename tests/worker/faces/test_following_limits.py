"""The faces that are followed if options exclude some, and the counts of excluded ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import pytest

from tests.worker.faces.films import HEIGHT, WIDTH, Squares, boxes, film, run
from worker.core.records import DecodedFrame, LeftOut
from worker.faces.finding import Finder
from worker.faces.following import Following
from worker.tracks.association import Tracker


def test_of_many_equal_faces_the_same_stay() -> None:
    """25 tiles and room for ten: ten faces of all frames, although each scan could choose others."""

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        wobble = int(9 * np.sin(i / 5))
        return {
            r * 5 + c: (10 + 62 * c + wobble, 4 + 35 * r, 26 + (i // 7 + c + r) % 2) for r in range(5) for c in range(5)
        }

    finder = Squares()
    found = run(finder, film(150, scene), max_faces=10)
    assert len(finder.scans) > 1
    assert all(len(detected.faces) == 10 for detected in found)
    assert all(detected.left_out.too_many == 15 for detected in found)
    ids = {tracked.track_ids for tracked in Tracker().run(found)}
    assert {frozenset(each) for each in ids} == {frozenset(range(10))}


def test_where_there_is_no_room_a_larger_newcomer_waits() -> None:
    """Followed faces stay; once one of them leaves, the largest of the others comes in."""

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        faces = {1: (20, 20, 30), 2: (20, 110, 30), 3: (240, 90, 60), 4: (150, 10, 34)}
        return {k: face for k, face in faces.items() if (k < 3 or i >= 20) and (k != 2 or i < 60)}

    found = run(Squares(), film(90, scene), max_faces=2)
    assert all(boxes(found[i]) == [[20, 20, 50, 50], [20, 110, 50, 140]] for i in range(60))
    assert all(boxes(found[i]) == [[20, 20, 50, 50], [240, 90, 300, 150]] for i in range(66, 90))


def test_the_largest_faces_are_kept_and_the_others_counted() -> None:
    """Faces narrower than `min_face_px` are excluded, then all but the `max_faces` largest; both are counted."""
    sizes = (50, 15, 58, 16, 54)

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        return {k: (4 + 62 * k, 30, side) for k, side in enumerate(sizes)}

    for faces, smallest, expected, too_many, too_small in (
        (10, 16, [16, 50, 54, 58], 0, 1),
        (2, 16, [54, 58], 2, 1),
        (10, 100, [], 0, 5),
        (1, 0, [58], 4, 0),
        (10, 0, [15, 16, 50, 54, 58], 0, 0),
    ):
        for detected in run(Squares(), film(20, scene), max_faces=faces, min_face_px=smallest):
            assert sorted(detected.faces.widths.tolist()) == expected
            assert (detected.left_out.too_many, detected.left_out.too_small) == (too_many, too_small)


@pytest.mark.parametrize(("side", "expected"), [(40, LeftOut(1, 0)), (20, LeftOut(0, 1))])
def test_a_newcomer_for_whom_there_is_no_room_is_counted(side: int, expected: LeftOut) -> None:
    """Although only the part that changed was scanned; from the scan on, until whole frames are scanned without it."""

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        return {1: (100, 60, 40), **({2: (240, 60, side)} if 10 <= i < 40 else {})}

    finder = Squares()
    found = run(finder, film(40, scene), max_faces=1, min_face_px=24)
    assert (HEIGHT, WIDTH) not in finder.scans[1:]
    assert all(boxes(detected) == [[100, 60, 140, 100]] for detected in found)
    left_out = [detected.left_out for detected in found]
    assert left_out[:10] == [LeftOut()] * 10
    assert left_out[25:] == [expected] * 15


def test_a_face_that_becomes_too_small_is_left_out_and_comes_back() -> None:
    """It is in exactly the frames in which it is wide enough."""

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        return {1: (100, 60, 40 - abs(30 - i))}

    found = run(Squares(), film(61, scene), min_face_px=24)
    assert [len(detected.faces) for detected in found] == [int(40 - abs(30 - i) >= 24) for i in range(61)]


def test_faces_below_the_threshold_are_none_unless_they_are_known() -> None:
    """`min_score` is the caller's; a followed face stays at half of it."""

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        return {1: (30, 40, 40), 2: (200, 60, 40)}

    finder = Squares({1: 0.7, 2: 0.5})
    assert all(boxes(detected) == [[30, 40, 70, 80]] for detected in run(finder, film(20, scene), min_score=0.6))
    assert all(len(detected.faces) == 0 for detected in run(finder, film(20, scene), min_score=0.8))
    fading = Squares({1: 0.9})
    frames = film(100, lambda i: {1: (100 + int(20 * np.sin(i / 10)), 40, 40)})

    def faded() -> Iterator[DecodedFrame]:
        for frame in frames:
            if frame.frame_index == 10:
                fading._scores = {1: 0.35}
            yield frame

    found = list(Following(cast(Finder, fading), 10, 0, 0.6).run(faded()))
    assert len(fading.scans) > 1
    assert all(len(detected.faces) == 1 for detected in found)
