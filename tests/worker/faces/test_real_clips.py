"""The finder that serves, on real clips, which are not part of the repository."""

from __future__ import annotations

from tests.worker.faces.pictures import clip
from worker.faces.following import Following
from worker.inference.detectors import open_finder
from worker.tracks.association import Tracker


def labelled(name: str, min_face_px: float) -> list[tuple[int, tuple[int, ...]]]:
    finder = open_finder(None, "cpu")
    found = Tracker().run(Following(finder, 10, min_face_px, None).run(clip(name)))
    return [(len(tracked.faces), tracked.track_ids) for tracked in found]


def test_one_face_in_every_frame_of_a_real_clip() -> None:
    """And one track."""
    assert labelled("single_face.mp4", 16) == [(1, (0,))] * 72


def test_two_people_who_turn_their_heads() -> None:
    """Both in every frame, one id each."""
    found = labelled("two_people.gif", 16)
    assert {(count, frozenset(ids)) for count, ids in found} == {(2, frozenset((0, 1)))}


def test_two_people_who_walk() -> None:
    """Both in every frame, small as they are."""
    found = labelled("walking_people.gif", 10)
    assert min(count for count, _ in found) >= 2


def test_a_real_clip_without_a_face() -> None:
    """Has none in any frame."""
    assert {count for count, _ in labelled("no_face.mp4", 16)} == {0}
