"""Steady tracks: noise goes, movement stays, nothing lags and nothing waits for long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from worker.core.records import DecodedFrame, Detections, Image, LeftOut, TrackedFrame
from worker.tracks import steadying
from worker.tracks.steadying import AROUND_S, MISSED_S, Steadying

FPS = 30
IMAGE: Image = np.zeros((4, 4, 3), np.uint8)
MARKS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
Place = Callable[[float], tuple[float, float]]  # seconds -> a box's corner
SIDE = 80


def frame(
    index: int,
    time_s: float,
    corners: Sequence[tuple[float, float]],
    ids: Sequence[int] | None = None,
    *,
    side: float = SIDE,
    image: Image | None = IMAGE,
) -> TrackedFrame:
    low = np.array(corners, np.float32).reshape(-1, 2)
    faces = Detections(
        np.hstack([low, low + side]), np.full(len(low), 0.8, np.float32), low[:, None] + MARKS[None] * side
    )
    known = tuple(range(len(low))) if ids is None else tuple(ids)
    return TrackedFrame(DecodedFrame(index, time_s, image), faces, known, ())


def run(frames: Sequence[TrackedFrame], min_face_px: float = 0) -> list[TrackedFrame]:
    steady = list(Steadying(min_face_px).run(frames))
    assert [t.frame for t in steady] == [t.frame for t in frames]  # every frame once, in order
    return steady


def corners(frames: Sequence[TrackedFrame], track_id: int = 0) -> np.ndarray:
    """(N, 2) of a track that is in every frame."""
    return np.array([t.faces.boxes[t.track_ids.index(track_id), :2] for t in frames])


@pytest.mark.parametrize("fps", [5, 10, 25, 30, 60])
def test_a_parabola_passes_unchanged(fps: int) -> None:
    """A face that speeds up evenly is where it was in every frame, the first and the last ones too."""
    times = np.arange(3 * fps) / fps
    frames = [frame(i, t, [(100 + 120 * t - 50 * t**2, 50 + 30 * t**2)]) for i, t in enumerate(times)]
    steady = run(frames)
    for a, b in zip(steady, frames, strict=True):
        assert a.track_ids == (0,)
        assert a.faces.boxes == pytest.approx(b.faces.boxes, abs=0.01)
        assert a.faces.landmarks == pytest.approx(b.faces.landmarks, abs=0.01)
        assert a.faces.scores == pytest.approx(b.faces.scores, abs=1e-3)


@pytest.mark.parametrize("velocity", [0.0, 60.0])
def test_noise_shrinks(velocity: float) -> None:
    """By at least half, standing or moving, without a lag behind the face; the landmarks' noise as well."""
    rng = np.random.default_rng(0)
    times = np.arange(150) / FPS
    true = np.stack([100 + velocity * times, np.full(150, 60.0)], axis=1)
    noisy = true + rng.normal(0, 0.8, true.shape)
    steady = run([frame(i, t, [(x, y)]) for i, (t, (x, y)) in enumerate(zip(times, noisy.tolist(), strict=True))])
    off = corners(steady) - true
    assert off.std() < 0.5 * (noisy - true).std()
    assert (off - (noisy - true)).mean(axis=0) == pytest.approx([0, 0], abs=0.05)  # no lag
    marks = np.array([t.faces.landmarks[0] for t in steady]) - true[:, None] - MARKS * SIDE
    assert marks.std() < 0.5 * (noisy - true).std()


def test_what_is_left_jitters_less_from_frame_to_frame() -> None:
    """Which is what an eye sees: steps between neighbours shrink to a fifth."""
    rng = np.random.default_rng(1)
    noisy = 100 + rng.normal(0, 0.8, (150, 2))
    steady = corners(run([frame(i, i / FPS, [(x, y)]) for i, (x, y) in enumerate(noisy.tolist())]))
    assert np.diff(steady, axis=0).std() < 0.2 * np.diff(noisy, axis=0).std()


@pytest.mark.parametrize("hertz", [1.0, 2.0, 3.0])
def test_a_fast_shake_of_the_head_is_followed(hertz: float) -> None:
    """Most of its way, at its time; nowhere by more than a tenth of the face's width beside it."""
    times = np.arange(120) / FPS
    true = 100 + 20 * np.sin(2 * np.pi * hertz * times)
    found = corners(run([frame(i, t, [(x, 60)]) for i, (t, x) in enumerate(zip(times, true.tolist(), strict=True))]))
    inner = slice(15, -15)
    assert np.ptp(found[inner, 0]) > 0.7 * np.ptp(true[inner])
    assert np.abs(found[:, 0] - true).max() < 0.1 * SIDE
    assert found[:, 1] == pytest.approx(60, abs=0.01)


@pytest.mark.parametrize(
    ("hertz", "way_px", "side", "least"),
    [
        (1.0, 20, 80, 0.9),
        (1.0, 8, 80, 0.85),
        (2.0, 5, 80, 0.6),
        (4.0, 20, 80, 0.75),
        (1.0, 4, 20, 0.85),
        (2.0, 2, 20, 0.6),
    ],
)
def test_a_sway_or_nod_keeps_its_way(hertz: float, way_px: float, side: float, least: float) -> None:
    """Small ones, too, also of small faces: what repeats over several frames is no noise."""
    times = np.arange(120) / FPS
    wave = np.sin(2 * np.pi * hertz * times)
    noisy = 100 + way_px * wave + np.random.default_rng(0).normal(0, 0.005 * side, 120)
    found = corners(
        run([frame(i, t, [(x, 60)], side=side) for i, (t, x) in enumerate(zip(times, noisy.tolist(), strict=True))])
    )
    inner = slice(20, -20)
    assert (found[inner, 0] - found[inner, 0].mean()) @ wave[inner] >= least * way_px * (wave[inner] @ wave[inner])


@pytest.mark.parametrize("side", [12, 20, 80])
def test_noise_of_a_standing_face_is_no_movement(side: float) -> None:
    """Neither the views' that take turns nor what differs by chance makes a face move by a hundredth of its width."""
    rng = np.random.default_rng(6)
    turns = np.array([0.01, -0.01, 0.0, -0.005])[np.arange(150) // 3 % 4]
    noisy = 100 + side * (turns + rng.normal(0, 0.01, 150))
    found = corners(run([frame(i, i / FPS, [(x, 60)], side=side) for i, x in enumerate(noisy.tolist())]))
    assert found[:, 0].std() < 0.008 * side
    assert np.diff(found[:, 0]).std() < 0.0025 * side


def test_a_sudden_start_is_not_foreseen() -> None:
    """A face that stands, then leaves at once, is neither ahead nor behind by more than a tenth of its width."""
    times = np.arange(90) / FPS
    true = 100 + 200 * np.maximum(times - 1.5, 0)
    found = corners(run([frame(i, t, [(x, 60)]) for i, (t, x) in enumerate(zip(times, true.tolist(), strict=True))]))
    assert np.abs(found[:, 0] - true).max() < 0.1 * SIDE


@pytest.mark.parametrize("gap", [1, 3, 5])
def test_a_short_gap_is_filled(gap: int) -> None:
    """The positions of the face in between."""
    missed = range(30, 30 + gap)
    frames = [frame(i, i / FPS, [(100 + 2 * i, 50)] if i not in missed else []) for i in range(70)]
    steady = run(frames)
    assert corners(steady)[:, 0] == pytest.approx(100 + 2 * np.arange(70), abs=0.05)
    assert all(t.faces.scores[0] == pytest.approx(0.8, abs=1e-3) for t in steady)


def test_a_long_gap_is_not_filled() -> None:
    """Who was not seen for longer than a moment was not there."""
    missed = range(30, 30 + int(MISSED_S * FPS) + 2)
    frames = [frame(i, i / FPS, [(100, 50)] if i not in missed else []) for i in range(70)]
    assert [len(t.faces) for t in run(frames)] == [0 if i in missed else 1 for i in range(70)]


@pytest.mark.parametrize("length", range(1, 12))
def test_tracks_begin_and_end_in_their_frames(length: int) -> None:
    """However short they are; nothing is added before or after."""
    there = range(20, 20 + length)
    frames = [frame(i, i / FPS, [(100 + 2 * i, 50)] if i in there else []) for i in range(60)]
    steady = run(frames)
    assert [t.track_ids for t in steady] == [(0,) if i in there else () for i in range(60)]
    found = np.array([t.faces.boxes[0, 0] for t in steady if len(t.faces)])
    assert found == pytest.approx([100 + 2 * i for i in there], abs=0.05)


def test_faces_keep_their_ids_and_what_was_left_out_its_frame() -> None:
    """In any order and number; a face that is replaced does not move to the new one."""
    rng = np.random.default_rng(2)
    frames = []
    for i in range(90):
        ids = [k for k in rng.permutation(4).tolist() if k != i // 30]
        given = frame(i, i / FPS, [(100.0 * k + i, 40.0 * k) for k in ids], ids)
        frames.append(TrackedFrame(given.frame, given.faces, given.track_ids, (7,) if i == 8 else (), LeftOut(i, 0)))
    steady = run(frames)
    for i, (before, after) in enumerate(zip(frames, steady, strict=True)):
        assert sorted(after.track_ids) == sorted(before.track_ids)
        assert len(after.faces) == len(after.track_ids)
        for track_id, box in zip(after.track_ids, after.faces.boxes, strict=True):
            assert box[:2] == pytest.approx([100 * track_id + i, 40 * track_id], abs=0.05)
        assert (after.ended, after.left_out) == (before.ended, before.left_out)


def test_frames_without_a_picture_have_no_faces() -> None:
    """Although the track is there before and after."""
    unreadable = [0, 10, 11, 39]
    frames = [
        frame(i, i / FPS, [(100, 50)] if i not in unreadable else [], image=None if i in unreadable else IMAGE)
        for i in range(40)
    ]
    assert [len(t.faces) for t in run(frames)] == [0 if i in unreadable else 1 for i in range(40)]


def test_narrow_boxes_are_left_out() -> None:
    """Those that noise alone had made wide enough, too."""
    frames = [frame(i, i / FPS, [(100, 50)], side=10 + (i % 2)) for i in range(60)]
    assert {len(t.faces) for t in run(frames, min_face_px=10.9)} == {0}
    assert {len(t.faces) for t in run(frames, min_face_px=9)} == {1}


@pytest.mark.parametrize("seed", range(3))
def test_irregular_times(seed: int) -> None:
    """Frames at any times: an even movement stays one."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / FPS, 120))
    steady = run([frame(i, t, [(100 + 90 * t, 50)]) for i, t in enumerate(times.tolist())])
    assert corners(steady)[:, 0] == pytest.approx(100 + 90 * times, abs=0.1)


@pytest.mark.parametrize("step", [0.0, 1e-12, 1e-9, 1e-6])
@pytest.mark.parametrize("every", [2, 7, 40])
def test_equal_times(step: float, every: int) -> None:
    """Also times that are nearly equal: values stay within those that were found."""
    times = [i // every / FPS + step * (i % every) for i in range(80)]
    rng = np.random.default_rng(3)
    noisy = 100 + rng.normal(0, 0.5, 80)
    found = corners(run([frame(i, t, [(x, 50)]) for i, (t, x) in enumerate(zip(times, noisy.tolist(), strict=True))]))
    assert np.isfinite(found).all()
    assert found[:, 0].min() > noisy.min() - 0.5
    assert found[:, 0].max() < noisy.max() + 0.5


@pytest.mark.parametrize("seed", range(40))
def test_times_in_two_or_three_places(seed: int) -> None:
    """Which leave a parabola open: values stay near those that were found, and no frame is an error."""
    rng = np.random.default_rng(seed)
    places = np.cumsum(rng.choice([1e-12, 1e-6, 0.04, 0.25, 0.5], rng.integers(2, 4)))
    times = np.sort(np.concatenate([places, rng.choice(places, rng.integers(5, 12))]))
    noisy = 100 + rng.normal(0, 0.5, len(times))
    found = corners(
        run([frame(i, t, [(x, 50)]) for i, (t, x) in enumerate(zip(times.tolist(), noisy.tolist(), strict=True))])
    )
    assert found[:, 0].min() > noisy.min() - 1
    assert found[:, 0].max() < noisy.max() + 1


@pytest.mark.parametrize("fps", [0.1, 1.0, 2.0])
def test_rare_frames_are_left_as_they_are(fps: float) -> None:
    """Too far apart to say anything of each other."""
    rng = np.random.default_rng(4)
    frames = [frame(i, i / fps, [tuple(rng.uniform(0, 500, 2).tolist())]) for i in range(20)]
    for a, b in zip(run(frames), frames, strict=True):
        assert np.array_equal(a.faces.boxes, b.faces.boxes)
        assert np.array_equal(a.faces.landmarks, b.faces.landmarks)


def test_no_frames_at_all() -> None:
    """Nothing in, nothing out."""
    assert run([]) == []


def waiting(frames: Sequence[TrackedFrame]) -> tuple[float, int]:
    """The longest time in seconds and the most frames that are taken before one is given."""
    taken: list[TrackedFrame] = []

    def given() -> Iterator[TrackedFrame]:
        for each in frames:
            taken.append(each)
            yield each

    most_s, most = 0.0, 0
    for done, steady in enumerate(Steadying(0).run(given())):
        most = max(most, len(taken) - done)
        if len(taken) < len(frames):
            most_s = max(most_s, taken[-1].frame.timestamp_s - steady.frame.timestamp_s)
    return most_s, most


@pytest.mark.parametrize("fps", [2, 30, 240])
def test_a_frame_waits_for_what_follows_it_no_longer(fps: int) -> None:
    """`AROUND_S` and a frame."""
    most_s, _ = waiting([frame(i, i / fps, [(100, 50)]) for i in range(4 * fps)])
    assert AROUND_S <= most_s <= AROUND_S + 1 / fps + 1e-9


def test_waiting_frames_have_bounded_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many a second there are; and the faces stay where they are."""
    monkeypatch.setattr(steadying, "WAITING_BYTES", 5 * IMAGE.nbytes)
    frames = [frame(i, i / 1000, [(100, 50)]) for i in range(200)]
    _, most = waiting(frames)
    assert most <= 7
    assert corners(run(frames)) == pytest.approx(np.tile((100, 50), (200, 1)), abs=0.01)


def test_a_track_is_forgotten_when_it_is_over() -> None:
    """A stream of ever new faces does not grow what is kept."""
    made = Steadying(0)
    for _ in made.run(frame(i, i / FPS, [(100, 50)], [i // 3]) for i in range(600)):
        assert len(made._tracks) <= 2 * (2 * AROUND_S * FPS / 3 + 2)
