"""Events of the summary: counts, durations, onsets, reactions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.contract.frames import Face, Frame, Looks
from app.contract.segments import Smoothing
from app.reports.summary import Summary, summarise

LABELS = ("Neutral", "Happiness", "Sadness")
FPS = 25
POINTS = ((10.0, 10.0), (20.0, 10.0), (15.0, 15.0), (11.0, 20.0), (19.0, 20.0))
GOOD = Looks(POINTS, (0, 0, 0), 0.3)


def face(track: int, label: int, score: float = 0.8, looks: Looks | None = None, size: float = 40) -> Face:
    low = (1 - score) / 2
    scores = tuple(score if k == label else low for k in range(3))
    return Face(track, (0, 0, size, size), 0.9, scores, (), looks)


def summary_of(tracks: Sequence[Sequence[int | None]], smoothing: Smoothing | None = None) -> Summary:
    """Of tracks with a label a frame, None where the face is not seen."""
    frames = [
        Frame(i, i / FPS, tuple(face(track, label) for track, label in enumerate(labels) if label is not None))
        for i, labels in enumerate(zip(*tracks, strict=True))
    ]
    return summarise("a" * 32, "succeeded", True, LABELS, frames, smoothing or Smoothing())


def test_events_of_a_label() -> None:
    """Two smiles of one and two seconds in ten: counted, timed and dated."""
    (track,) = summary_of([[0] * 50 + [1] * 25 + [0] * 75 + [1] * 50 + [0] * 50]).tracks
    smiles = track.events["Happiness"]
    assert (smiles.count, smiles.per_minute, smiles.mean_s, smiles.longest_s) == (2, 12, 1.5, 2)
    assert smiles.onsets_s == (2, 6)
    assert track.labels["Happiness"].share == pytest.approx(0.3)
    assert [(t.before, t.after, t.count) for t in track.transitions] == [
        ("Neutral", "Happiness", 2),
        ("Happiness", "Neutral", 2),
    ]
    assert "Sadness" not in track.events
    assert track.trust is None


def test_peaks_are_the_best_frames_of_the_best_segments() -> None:
    """A peak is a frame of the source with its own score, one a segment."""
    rows = [(0, 0.6)] * 25 + [(1, 0.7)] * 12 + [(1, 0.95)] + [(1, 0.7)] * 12 + [(0, 0.6)] * 25 + [(1, 0.8)] * 25
    frames = [Frame(100 + i, i / FPS, (face(0, *row),)) for i, row in enumerate(rows)]
    (track,) = summarise("a" * 32, "succeeded", True, LABELS, frames, Smoothing()).tracks
    assert [(peak.frame_index, peak.score) for peak in track.events["Happiness"].peaks] == [(137, 0.95), (175, 0.8)]


def test_who_reacts_to_whom() -> None:
    """A smile half a second after another's counts; one two seconds later, or at a cut, does not."""
    first = [0] * 50 + [1] * 50 + [0] * 100 + [None] + [1] * 50
    second = [0] * 62 + [1] * 50 + [0] * 88 + [None] + [1] * 50
    reactions = summary_of([first, second]).reactions
    found = {(r.first, r.first_label, r.second, r.second_label): (r.count, r.times_s) for r in reactions}
    assert found == {
        (0, "Happiness", 1, "Happiness"): (1, (62 / FPS,)),
        (0, "Neutral", 1, "Neutral"): (1, (112 / FPS,)),
    }
    assert {reaction.by for reaction in reactions} == {"track_id"}
    apart = [0] * 50 + [1] * 150, [0] * 110 + [1] * 90
    assert summary_of(apart).reactions == ()


@pytest.mark.parametrize(
    ("looks", "size", "expected"),
    [
        (GOOD, 40, (1, 0, 0, 0)),
        (GOOD, 20, (0, 1, 0, 0)),
        (Looks(POINTS, (-50, 0, 0), 0.3), 40, (0, 0, 1, 0)),
        (Looks(POINTS, (0, 35, 0), 0.3), 40, (0, 0, 1, 0)),
        (Looks(POINTS, (0, 0, 80), 0.1), 20, (0, 1, 0, 1)),
    ],
)
def test_trust_says_why_not(looks: Looks, size: float, expected: tuple[float, ...]) -> None:
    """Faces that are small, turned or blurred are counted as that; an upside-down one is not turned away."""
    frames = [Frame(i, i / FPS, (face(0, 0, looks=looks, size=size),)) for i in range(10)]
    (track,) = summarise("a" * 32, "succeeded", True, LABELS, frames, Smoothing()).tracks
    assert track.trust is not None
    assert (track.trust.trusted, track.trust.too_small, track.trust.turned, track.trust.blurred) == expected
