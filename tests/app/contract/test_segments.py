"""Segments: what smoothing does to labels, and what it must not do."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contract.frames import Face, Frame
from app.contract.options import JobOptions
from app.contract.segments import Smoothing, shown

FPS = 25


def frames_of(labels: Sequence[int | None], high: float = 0.8, fps: float = FPS) -> list[Frame]:
    """A frame a label, which has the highest of three scores; None: no face."""
    low = (1 - high) / 2
    scores = [tuple(high if k == label else low for k in range(3)) for label in labels]
    faces = [() if label is None else (Face(0, (0, 0, 9, 9), 0.9, scores[i]),) for i, label in enumerate(labels)]
    return [Frame(i, i / fps, found) for i, found in enumerate(faces)]


def labels_of(frames: Sequence[Frame], smoothing: Smoothing) -> list[int | None]:
    seen = list(shown(frames, smoothing))
    assert [frame.frame for frame in seen] == list(frames)
    return [frame.labels[0] if frame.labels else None for frame in seen]


def runs(labels: Sequence[int | None]) -> list[tuple[int | None, int]]:
    return [(label, len(list(group))) for label, group in itertools.groupby(labels)]


@pytest.mark.parametrize("smooth_s", [0, 5e-324, 2e-313, 6e-179, 1e-9])
def test_without_smoothing_labels_are_raw(smooth_s: float) -> None:
    """With smooth_s 0, or next to it, a frame's label is the one with its highest score."""
    labels = [0, 1, 1, None, 2, 0, 1]
    assert labels_of(frames_of(labels), Smoothing(smooth_s, 0)) == labels


def test_flicker_goes_and_a_real_change_stays_where_it_is() -> None:
    """Single frames of another label change nothing; a change that lasts is followed at its own frame."""
    flicker = [0] * 30 + [1] + [0] * 19 + [2, 1] + [0] * 20
    assert set(labels_of(frames_of(flicker), Smoothing())) == {0}
    step = [0] * 50 + [1] * 50
    assert labels_of(frames_of(step), Smoothing()) == step
    assert labels_of(frames_of(step), Smoothing(0.3, 0)) == step


def test_a_sequence_that_never_settles_is_cut_into_segments_of_the_shortest_length() -> None:
    """If no run is long enough, the label with the highest total score is chosen."""
    restless = [0, 1, 0, 2, 0] * 20
    assert runs(labels_of(frames_of(restless), Smoothing(0, 0.4))) == [(0, 100)]
    assert len(runs(labels_of(frames_of([0, 1, 2, 2, 1, 0] * 20), Smoothing(0, 0.4)))) <= 120 / FPS / 0.4


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.sampled_from([0, 1, 2, None]), min_size=1, max_size=120),
    st.sampled_from([0, 0.1, 0.3, 1]),
    st.sampled_from([0, 0.2, 0.4, 1]),
    st.sampled_from([5, 25, 60]),
)
def test_no_segment_is_short_but_a_face_that_is_seen_for_less(
    labels: list[int | None], smooth_s: float, least_s: float, fps: int
) -> None:
    """Every frame comes out once, in order; segments within a presence last, unless the face itself does not."""
    found = labels_of(frames_of(labels, fps=fps), Smoothing(smooth_s, least_s))
    assert [label is None for label in found] == [label is None for label in labels]
    start = 0
    for there, group in itertools.groupby(found, key=lambda label: label is not None):
        presence = list(group)
        lasts_s = len(presence) / fps
        if there:
            lengths = [count / fps for _, count in runs(presence)]
            assert min(lengths) >= min(least_s, lasts_s) - 1e-6
        start += len(presence)


def test_memory_is_flat() -> None:
    """For 100,000 frames only those of the last seconds are buffered."""
    few = frames_of([0] * 1000)
    tracemalloc.start()
    seen = sum(1 for _ in shown((Frame(i, i / FPS, few[i % 1000].faces) for i in range(100_000)), Smoothing()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == 100_000
    assert peak < 2**20


def test_tracks_are_smoothed_for_themselves() -> None:
    """Faces of a frame are smoothed separately, and one that leaves delays no other."""
    first, second = frames_of([0] * 60), frames_of([1] * 20)
    both = [
        Frame(
            a.frame_index,
            a.timestamp_s,
            (*a.faces, *(Face(7, f.bbox, 0.9, f.scores) for f in second[i].faces)) if i < 20 else a.faces,
        )
        for i, a in enumerate(first)
    ]
    seen = list(shown(both, Smoothing()))
    assert [frame.labels for frame in seen] == [[0, 1]] * 20 + [[0]] * 40


@pytest.mark.parametrize(
    ("options", "query", "expected"),
    [
        ({}, {}, (0.3, 0.4, 0.4)),
        ({"smooth_s": 0}, {}, (0, 0, 0.4)),
        ({}, {"smooth_s": 0}, (0, 0, 0.4)),
        ({}, {"smooth_s": 0, "min_segment_s": 0.2}, (0, 0.2, 0.4)),
        ({"min_segment_s": 1, "unsure_below": 0.5}, {"smooth_s": 0.6}, (0.6, 1, 0.5)),
        ({"smooth_s": 0}, {"smooth_s": 0.3, "unsure_below": 0}, (0.3, 0.4, 0)),
    ],
)
def test_a_read_may_choose_otherwise(
    options: dict[str, float], query: dict[str, float], expected: tuple[float, ...]
) -> None:
    """Query parameters stand for the job's options; smooth_s 0 is raw."""
    assert Smoothing.chosen(JobOptions.model_validate(options), **query) == Smoothing(*expected)
