"""Faces over a stream: what frames have is as if every one had been scanned, at a fraction of the work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import pytest

from tests.worker.faces.films import FPS, HEIGHT, WIDTH, Scene, Squares, assert_true, backdrop, boxes, film, run, truth
from worker.core.records import DecodedFrame
from worker.faces import following
from worker.faces.finding import Finder
from worker.faces.following import ANY_S, BACK_S, Following


def moving(i: int) -> dict[int, tuple[int, int, int]]:
    """Two faces that move evenly."""
    return {1: (10 + 2 * i, 20 + i // 3, 36), 2: (260 - i, 100, 40)}


def standing(i: int) -> dict[int, tuple[int, int, int]]:
    return {1: (20, 20, 36)}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 12, 13, 60])
def test_every_frame_has_its_faces(count: int) -> None:
    """Boxes, landmarks and scores are the truth where faces move evenly, whenever the stream ends."""

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        return {1: (10 + 2 * i, 20 + i, 36), 2: (260 - i, 100, 40)}

    finder = Squares()
    found = run(finder, film(count, scene))
    assert_true(found, scene)
    for detected in found:
        assert detected.faces.scores == pytest.approx(np.full(2, 0.9))
        widths = detected.faces.widths
        marks = np.sort(detected.faces.landmarks[:, :, 0] - detected.faces.boxes[:, :1], axis=1)
        assert (marks > 0).all()
        assert (marks < widths[:, None]).all()
    assert len(finder.scans) + finder.looks < max(count, 4)


@pytest.mark.parametrize("start", range(1, 26))
def test_a_face_that_comes_and_goes_is_found_to_the_frame(start: int) -> None:
    """A second face is in exactly the frames in which it is there, wherever the scans are."""
    there = range(start, start + 14)

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        return {**standing(i), **({2: (200, 100, 40)} if i in there else {})}

    finder = Squares()
    assert_true(run(finder, film(60, scene)), scene)
    assert len(finder.scans) <= 5


@pytest.mark.parametrize("start", [3, 11, 17])
def test_a_moving_face_that_comes_in_at_the_edge(start: int) -> None:
    """It is followed backwards from the scan to its first frame."""

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        return {**standing(i), **({2: (290 - 3 * (i - start), 100, 30)} if i >= start else {})}

    found = run(Squares(), film(50, scene))
    assert [len(detected.faces) for detected in found] == [1 if i < start else 2 for i in range(50)]


@pytest.mark.parametrize("gone", range(2, 12))
def test_a_face_that_leaves_is_in_no_later_frame(gone: int) -> None:
    """Between two looks, too; the other one stays."""

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        return {k: face for k, face in moving(3 * i // 3).items() if k == 2 or i < gone}

    found = run(Squares(), film(30, scene))
    assert [len(detected.faces) for detected in found] == [2 if i < gone else 1 for i in range(30)]


@pytest.mark.parametrize("cut", range(4, 16))
def test_nothing_goes_across_a_cut(cut: int) -> None:
    """Faces near enough to be taken for each other on both sides keep their own boxes up to it and from it on."""

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        return {1: (100, 50, 60)} if i < cut else {1: (112, 50, 60), 2: (230, 90, 50)}

    def behind(i: int) -> np.ndarray:
        return backdrop(0) if i < cut else 254 - backdrop(0)

    found = run(Squares(), film(30, scene, behind=behind))
    assert [d.frame.frame_index for d in found if d.starts_shot] == [cut]
    assert_true(found, scene)


def test_cuts_one_after_the_other() -> None:
    """Shots of one frame are shots with their own faces."""
    cuts = [5, 6, 7]

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        shot = sum(i >= cut for cut in cuts)
        return {1: (100 + 30 * shot, 50, 60)} if shot != 2 else {}

    def behind(i: int) -> np.ndarray:
        return backdrop(0) if sum(i >= cut for cut in cuts) % 2 == 0 else 254 - backdrop(0)

    found = run(Squares(), film(12, scene, behind=behind))
    assert [d.frame.frame_index for d in found if d.starts_shot] == cuts
    assert_true(found, scene)


@pytest.mark.parametrize("change", [1, 2, 7, 9])
def test_pictures_of_another_size_start_a_shot(change: int) -> None:
    """Nothing is where it was; what a folder of pictures holds may be of any sizes."""
    frames = film(20, lambda _: {1: (100, 40, 60)})
    smaller = film(20, lambda _: {1: (60, 20, 30)})
    mixed = [
        DecodedFrame(
            f.frame_index, f.timestamp_s, s.image[:90, :160] if i >= change and s.image is not None else f.image
        )
        for i, (f, s) in enumerate(zip(frames, smaller, strict=True))
    ]
    found = run(Squares(), mixed)
    assert [d.frame.frame_index for d in found if d.starts_shot] == [change]
    assert [boxes(d) for d in found] == [[[100, 40, 160, 100]] if i < change else [[60, 20, 90, 50]] for i in range(20)]


@pytest.mark.parametrize(
    "unreadable",
    [
        [0],
        [0, 1, 2],
        [5, 6, 7, 14, 28],
        [29],
        [28, 29],
        [26, 27, 28, 29],
        list(range(30)),
        [i for i in range(30) if i % 2],
    ],
)
def test_unreadable_frames_have_no_faces(unreadable: list[int]) -> None:
    """Their neighbours have theirs, also where the stream ends with them."""

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        return {1: (10 + 2 * i, 20, 36), 2: (260 - i, 100, 40)}

    assert_true(run(Squares(), film(30, scene, unreadable=unreadable)), scene, without=unreadable)


@pytest.mark.parametrize("before", range(1, 5))
def test_unreadable_frames_before_a_cut(before: int) -> None:
    """Nothing of the shot before it is mixed with the shot after it."""
    unreadable = list(range(14 - before, 14))

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        return {1: (100 + 2 * i, 50, 60)} if i < 14 else {2: (30, 60, 50)}

    def behind(i: int) -> np.ndarray:
        return backdrop(0) if i < 14 else 254 - backdrop(0)

    found = run(Squares(), film(30, scene, behind=behind, unreadable=unreadable))
    assert_true(found, scene, without=unreadable)
    assert [d.frame.frame_index for d in found if d.starts_shot] == [14]


@pytest.mark.parametrize("seed", range(4))
def test_faces_cuts_and_damage_at_random(seed: int) -> None:
    """Each frame once and in order; no face twice, none across a cut, none in a frame without a picture."""
    rng = np.random.default_rng(seed)
    seen = np.repeat(rng.random((12, 4)) < 0.6, 15, axis=0)
    cuts = np.flatnonzero(rng.random(180) < 0.03)
    unreadable = [int(i) for i in np.flatnonzero(rng.random(180) < 0.1)]

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        return {k: (20 + 75 * k, 60 + int(20 * np.sin(i / 9)), 40) for k in range(4) if seen[i, k]}

    def behind(i: int) -> np.ndarray:
        return backdrop(0) if (cuts <= i).sum() % 2 == 0 else 254 - backdrop(0)

    for i, detected in enumerate(run(Squares(), film(180, scene, behind=behind, unreadable=unreadable))):
        places = [box[0] for box in boxes(detected)]
        assert len(set(places)) == len(places)
        assert set(places) <= {box[0] for box in truth(scene, i)}, i
        assert not places or i not in unreadable


def test_a_still_film_is_scanned_once() -> None:
    """And looked at now and then."""
    finder = Squares()
    found = run(finder, film(300, lambda _: {1: (100, 50, 60)}))
    assert_true(found, lambda _: {1: (100, 50, 60)})
    assert len(finder.scans) == 1
    assert finder.looks <= 101


@pytest.mark.parametrize("hertz", [2, 3, 4])
@pytest.mark.parametrize("fps", [25, 30, 60])
def test_a_shaking_head_is_followed_through_every_turn(hertz: int, fps: int) -> None:
    """Its way is not cut short between looks, once it has begun to shake; afterwards looks are rare again."""

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        shakes = fps <= i < 3 * fps
        return {1: (100 + round(15 * np.sin(2 * np.pi * hertz * i / fps)) * shakes, 50, 60)}

    finder = Squares()
    found = run(finder, film(6 * fps, scene, fps=fps))
    for i in range(fps + fps // 2, 3 * fps):
        assert boxes(found[i])[0][0] == pytest.approx(truth(scene, i)[0][0], abs=2), i
    assert finder.looks < 3.5 * 30 + 3 * 15


def test_a_film_in_which_only_known_people_move_is_seldom_scanned() -> None:
    """Once in `ANY_S` seconds."""

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        return {1: (130 + int(20 * np.sin(i / 10)), 50, 60)}

    finder = Squares()
    found = run(finder, film(300, scene))
    assert all(len(detected.faces) == 1 for detected in found)
    assert 300 / FPS / ANY_S - 1 <= len(finder.scans) <= 300 / FPS / ANY_S + 1
    assert set(finder.scans) == {(HEIGHT, WIDTH)}


@pytest.mark.parametrize("fps", [24, 25, 30, 60])
def test_where_the_whole_frame_moves_it_is_scanned_often(fps: int) -> None:
    """At least once in 0.45 s, with or without faces."""
    wide = backdrop(3, width=WIDTH * 4)
    scenes: tuple[Scene, ...] = (lambda _: {}, standing)
    for scene in scenes:
        finder = Squares()
        at: list[int] = []
        frames = film(3 * fps, scene, fps=fps, behind=lambda i: wide[:, 120 * i // fps :][:, :WIDTH])

        def noting(
            frames: list[DecodedFrame] = frames, at: list[int] = at, finder: Squares = finder
        ) -> Iterator[DecodedFrame]:
            for frame in frames:
                yield frame
                at += [frame.frame_index] * (len(finder.scans) - len(at))

        list(Following(cast(Finder, finder), 10, 0, None).run(noting()))
        times = np.array([*at, 3 * fps]) / fps
        assert times[0] == 0
        assert np.diff(times).max() <= 0.45


def test_a_part_is_scanned_where_a_part_changes() -> None:
    """At the frame's scale; a new face that the part's edge cuts through has its whole box."""

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        return {1: (120, 40, 60), **({2: (210, 60, 40)} if i >= 20 else {})}

    finder = Squares()
    assert_true(run(finder, film(50, scene)), scene)
    parts = [scan for scan in finder.scans if scan != (HEIGHT, WIDTH)]
    assert parts
    assert all(width < WIDTH - 210 for _, width in parts)
    assert set(finder.sides) == {WIDTH}


@pytest.mark.parametrize("y", range(88, 94))
def test_a_part_that_cuts_through_a_known_face_changes_nothing(y: int) -> None:
    """Its box stays whole, and it is not found a second time."""

    def scene(_: int) -> dict[int, tuple[int, int, int]]:
        return {1: (150, y, 20)}

    def behind(i: int) -> np.ndarray:
        image = backdrop()
        if i >= 20:
            image[60:76, 140:180] = (10, 250, 240)
        return image

    finder = Squares()
    assert_true(run(finder, film(50, scene, behind=behind)), scene)
    (part,) = finder.scans[1:]
    assert part[0] < HEIGHT - y


def test_a_rare_sample_is_looked_at_each() -> None:
    """At two frames a second or less, faces are in exactly their frames, however they come and go."""
    rng = np.random.default_rng(5)
    there = rng.random((40, 3)) < 0.6

    def scene(i: int) -> dict[int, tuple[int, int, int]]:
        return {k: (20 + 100 * k, 60, 40) for k in range(3) if there[i, k]}

    for fps in (2.0, 1.0, 0.1):
        assert_true(run(Squares(), film(40, scene, fps=fps)), scene)


def waits(frames: Sequence[DecodedFrame]) -> tuple[float, int]:
    """The longest time, in seconds, and the most bytes that frames wait for those that follow."""
    taken: list[DecodedFrame] = []
    most_s, most_bytes = 0.0, 0

    def given() -> Iterator[DecodedFrame]:
        for frame in frames:
            taken.append(frame)
            yield frame

    done = 0
    for detected in Following(cast(Finder, Squares()), 10, 0, None).run(given()):
        if len(taken) < len(frames):
            most_s = max(most_s, taken[-1].timestamp_s - detected.frame.timestamp_s)
        waiting = taken[done:]
        most_bytes = max(most_bytes, sum(frame.image.nbytes for frame in waiting if frame.image is not None))
        done += 1
    assert done == len(frames)
    return most_s, most_bytes


@pytest.mark.parametrize("fps", [5, 30, 240])
def test_frames_wait_a_bounded_time(fps: int) -> None:
    """For the scan that may follow them back, no longer."""
    most_s, _ = waits(film(3 * fps, standing, fps=fps))
    assert 0.2 <= most_s <= BACK_S + max(1 / fps, 0.1)


@pytest.mark.parametrize("fps", [30, 1000, 1e9])
def test_frames_wait_with_bounded_bytes(monkeypatch: pytest.MonkeyPatch, fps: float) -> None:
    """However large and however many a second they are, and also where time stands still."""
    size = HEIGHT * WIDTH * 3
    monkeypatch.setattr(following, "BACK_BYTES", 4 * size)
    _, most_bytes = waits(film(120, standing, fps=fps))
    assert most_bytes <= 6 * size
