"""Tracks: one face over time has one id, until a cut or two seconds without it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from worker.core.records import DecodedFrame, DetectedFrame, Detections, LeftOut, TrackedFrame
from worker.tracks.association import MAX_GAP_S, Tracker

FPS = 25


def frame(index: int, *centres: tuple[float, float], cut: bool = False, fps: float = FPS) -> DetectedFrame:
    """A frame with faces of 80 pixels around these centres."""
    low = np.array(centres, np.float32).reshape(-1, 2) - 40
    faces = Detections(
        np.hstack([low, low + 80]), np.ones(len(centres), np.float32), np.zeros((len(centres), 5, 2), np.float32)
    )
    return DetectedFrame(DecodedFrame(index, index / fps, None), faces, cut)


def track(frames: Sequence[DetectedFrame]) -> list[TrackedFrame]:
    tracked = list(Tracker().run(frames))
    assert [t.frame for t in tracked] == [f.frame for f in frames]
    return tracked


def test_a_moving_face_keeps_its_id() -> None:
    """A face on a circle, half a box a frame, is one track, and a standing one beside it another."""
    angles = np.linspace(0, 6 * np.pi, 150)
    frames = [frame(i, (500 + 250 * np.cos(a), 400 + 250 * np.sin(a)), (1000, 400)) for i, a in enumerate(angles)]
    assert {t.track_ids for t in track(frames)} == {(0, 1)}


def test_ids_follow_faces_not_their_order() -> None:
    """A detector that lists faces in another order does not change whose they are."""
    rng = np.random.default_rng(0)
    places = [(100.0, 100.0), (300.0, 100.0), (500.0, 100.0)]
    orders = [rng.permutation(3) for _ in range(40)]
    tracked = track([frame(i, *(places[k] for k in order)) for i, order in enumerate(orders)])
    who = {int(k): track_id for k, track_id in zip(orders[0], tracked[0].track_ids, strict=True)}
    for order, frame_ in zip(orders, tracked, strict=True):
        assert frame_.track_ids == tuple(who[int(k)] for k in order)


def test_a_cut_ends_every_track() -> None:
    """The same place after a cut is another face, and the cut's frame says which tracks ended."""
    tracked = track([frame(0, (100, 100), (300, 100)), frame(1, (100, 100), (300, 100), cut=True)])
    assert tracked[1].track_ids == (2, 3)
    assert sorted(tracked[1].ended) == [0, 1]
    assert tracked[0].ended == ()


GAP = round(MAX_GAP_S * FPS)


@pytest.mark.parametrize(("gap_frames", "kept"), [(1, True), (GAP - 1, True), (GAP, True), (GAP + 1, False)])
def test_a_gap_of_two_seconds_ends_a_track(gap_frames: int, kept: bool) -> None:
    """A face away for at most `MAX_GAP_S` comes back as itself, after that as another."""
    assert MAX_GAP_S == 2
    frames = [frame(0, (100, 100)), *(frame(i) for i in range(1, gap_frames)), frame(gap_frames, (100, 100))]
    tracked = track(frames)
    assert tracked[-1].track_ids == ((0,) if kept else (1,))
    assert [e for t in tracked for e in t.ended] == ([] if kept else [0])


@pytest.mark.parametrize("hidden", [5, 25, 45])
@pytest.mark.parametrize("speed", [0.0, 0.5])
def test_a_face_behind_an_occluder_keeps_its_id(hidden: int, speed: float) -> None:
    """Standing or drifting, for up to two seconds; the one that passes in front of it keeps its own."""
    frames = []
    for i in range(90):
        behind = [(400 + speed * i, 200.0)] if not 20 <= i < 20 + hidden else []
        frames.append(frame(i, (8.0 * i, 205.0), *behind))
    tracked = track(frames)
    for i, t in enumerate(tracked):
        assert t.track_ids == ((0, 1) if not 20 <= i < 20 + hidden else (0,)), i
        assert t.ended == ()


@pytest.mark.parametrize("hidden", [2, 8, 15])
@pytest.mark.parametrize("speed", [3.0, 10.0])
def test_a_moving_face_is_expected_where_it_goes(hidden: int, speed: float) -> None:
    """Behind a pillar it goes on; it comes out with its id, although far from where it went in."""
    frames = [frame(i, *([(100 + speed * i, 200.0)] if not 20 <= i < 20 + hidden else [])) for i in range(60)]
    assert {t.track_ids for t in track(frames)} == {(0,), ()}


@pytest.mark.parametrize("turn", [4.0, 10.0])
@pytest.mark.parametrize("hidden", range(1, 9))
def test_ids_do_not_swap_where_two_cross_with_one_hidden(hidden: int, turn: float) -> None:
    """The one behind is missing around the crossing, and comes out on the other side as itself."""
    frames, expected = [], []
    for i in range(80):
        seen = abs(i - 40) > hidden
        frames.append(frame(i, (400 + turn * (i - 40), 200.0), *([(400 - turn * (i - 40), 206.0)] if seen else [])))
        expected.append((0, 1) if seen else (0,))
    assert [t.track_ids for t in track(frames)] == expected


@pytest.mark.parametrize("hidden_s", [0.5, 1.0, 1.5, 1.9])
@pytest.mark.parametrize("speed", [1.0, 3.0, 5.0, 8.0])
def test_a_walk_behind_something_wide_is_one_track(hidden_s: float, speed: float) -> None:
    """Two who pass behind a pillar together, and one whom another hides as they cross, come out as themselves."""
    half = round(hidden_s * FPS / 2)
    steps = range(-80, 80)
    seen = [abs(d) > half for d in steps]
    pair = [frame(i, *([(800 + speed * d, 200.0), (700 + speed * d, 206.0)] * seen[i])) for i, d in enumerate(steps)]
    crossing = [
        frame(i, (800 + speed * d, 200.0), *([(800 - speed * d, 206.0)] * seen[i])) for i, d in enumerate(steps)
    ]
    assert [t.track_ids for t in track(pair)] == [(0, 1) if there else () for there in seen]
    assert [t.track_ids for t in track(crossing)] == [(0, 1) if there else (0,) for there in seen]


@pytest.mark.parametrize("speed", [0.0, 2.0])
@pytest.mark.parametrize("width", [70, 110])
def test_a_box_that_an_edge_squeezes_before_the_face_is_hidden(width: int, speed: float) -> None:
    """A door passes over a face: its box shrinks towards the far side, then the near side comes out first."""
    ids, places = [], []
    for i in range(90):
        face, door = 400 + speed * i, 8.0 * i + (100 - width)
        left, right = face - 40, face + 40
        if door + width <= left or door >= right:
            shown = (left, right)
        else:
            shown = (max(left, door + width), right) if right - door - width > door - left else (left, min(right, door))
        whole = frame(i, (face, 200.0))
        box = np.array([[shown[0], 160, shown[1], 240]], np.float32)
        faces = Detections(box, whole.faces.scores, whole.faces.landmarks)
        there = shown[1] - shown[0] >= 32
        places.append(DetectedFrame(whole.frame, faces if there else Detections.none(), starts_shot=False))
        ids.append((0,) if there else ())
    assert () in ids
    assert [t.track_ids for t in track(places)] == ids


@pytest.mark.parametrize("wrong", [(36, 45), (34, 42)])
def test_single_boxes_of_a_wrong_size_break_no_track(wrong: tuple[int, int]) -> None:
    """As of a face that the frame's edge cuts off, one too large and the next too small."""
    frames = []
    for i in range(40):
        width, height = {25: (70, 88), 26: wrong}.get(i, (54, 70))
        box = np.array([[450, 140 - height / 2, 450 + width, 140 + height / 2]], np.float32)
        faces = Detections(box, np.ones(1, np.float32), np.zeros((1, 5, 2), np.float32))
        frames.append(DetectedFrame(frame(i).frame, faces, starts_shot=False))
    assert {t.track_ids for t in track(frames)} == {(0,)}


def test_a_face_far_from_a_lost_one_is_another() -> None:
    """Place and size have to fit: neither one across the frame, nor one of twice the size in its place."""
    frames = [frame(0, (100, 100)), *(frame(i) for i in range(1, 10)), frame(10, (600, 100))]
    assert track(frames)[-1].track_ids == (1,)
    low = np.array([[20, 20]], np.float32)
    large = Detections(np.hstack([low, low + 160]), np.ones(1, np.float32), np.zeros((1, 5, 2), np.float32))
    frames[10] = DetectedFrame(frames[10].frame, large, starts_shot=False)
    assert track(frames)[-1].track_ids == (1,)


def test_what_was_left_out_goes_on() -> None:
    """The numbers of a frame stay with it."""
    left = LeftOut(3, 4)
    given = frame(0, (100, 100))
    (tracked,) = Tracker().run([DetectedFrame(given.frame, given.faces, starts_shot=False, left_out=left)])
    assert tracked.left_out == left


def test_rare_samples_are_no_gap() -> None:
    """At a frame every two seconds, neighbouring frames still are neighbours."""
    assert {t.track_ids for t in track([frame(i, (100, 100), fps=0.5) for i in range(5)])} == {(0,)}


def test_crossing_faces_stay_two() -> None:
    """Two faces that pass each other are two tracks all along: no third appears and none ends."""
    frames = [frame(i, (100 + 12 * i, 200), (700 - 12 * i, 215)) for i in range(50)]
    tracked = track(frames)
    assert {frozenset(t.track_ids) for t in tracked} == {frozenset((0, 1))}
    assert all(t.ended == () for t in tracked)


def test_ids_are_never_used_twice() -> None:
    """Random faces, gaps and cuts: ids of a frame differ, an ended id never comes back, new ones count up."""
    rng = np.random.default_rng(1)
    frames = []
    for i in range(300):
        faces = [(x, y) for x in (100, 300, 500) for y in (100, 300) if rng.random() < 0.3]
        frames.append(frame(i, *faces, cut=bool(rng.random() < 0.05), fps=4))
    ended: set[int] = set()
    newest = -1
    for t in track(frames):
        ended.update(t.ended)
        assert len(set(t.track_ids)) == len(t.track_ids) == len(t.faces)
        assert ended.isdisjoint(t.track_ids)
        for track_id in t.track_ids:
            assert track_id <= newest + 1
            newest = max(newest, track_id)
    assert ended
