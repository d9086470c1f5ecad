"""Results at the end of an input: each person's neutral face, from their calmest frames or from a span."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.contract.frames import Face, Frame
from app.contract.options import JobOptions
from app.contract.whole import BestFrame, Whole, log_odds
from worker.inference.whole import NoNeutralError, WholeTally

LABELS = ("Neutral", "Happiness", "Sadness")
CALM, SMILE = (0.8, 0.1, 0.1), (0.1, 0.85, 0.05)


def frames_of(*tracks: Sequence[tuple[float, ...]]) -> list[Frame]:
    """A frame for each of the tracks' scores, 25 a second."""
    return [
        Frame(i, i / 25, tuple(Face(track, (0, 0, 9, 9), 0.9, scores) for track, scores in enumerate(row)))
        for i, row in enumerate(zip(*tracks, strict=True))
    ]


def whole_of(frames: list[Frame], baseline: str, people: dict[int, int] | None = None) -> Whole:
    gathering = None if people is None else cast(Any, SimpleNamespace(people=lambda: (people, {})))
    options = JobOptions(baseline=baseline, people=people is not None)
    tally = WholeTally(options, LABELS, gathering)
    assert list(tally.seen(frames)) == frames
    return tally.whole()


def test_auto_is_the_calmest_fifth() -> None:
    """Somebody who smiles in four fifths of the frames is neutral in the last one."""
    whole = whole_of(frames_of([SMILE] * 80 + [CALM] * 20), "auto")
    assert whole.neutral[0] == pytest.approx([log_odds(p) for p in CALM], abs=1e-3)
    joined = list(whole.join(frames_of([SMILE, CALM])))
    smile, calm = (frame.faces[0].change for frame in joined)
    assert smile == pytest.approx([log_odds(a) - log_odds(b) for a, b in zip(SMILE, CALM, strict=True)], abs=2e-3)
    assert calm == pytest.approx([0, 0, 0], abs=2e-3)


def test_a_span_is_taken_as_it_is() -> None:
    """Changes are relative to the scores in the span; people outside it have no baseline."""
    first, second = [CALM] * 50 + [SMILE] * 50, [SMILE] * 100
    whole = whole_of(frames_of(first, second), "2-4")
    assert whole.neutral[0] == whole.neutral[1] == pytest.approx([log_odds(p) for p in SMILE], abs=1e-3)
    late = [Frame(i, 10 + i / 25, (Face(7, (0, 0, 9, 9), 0.9, CALM),)) for i in range(50)]
    assert 7 not in whole_of([*frames_of(first), *late], "2-4").neutral


def test_tracks_of_one_person_share_a_baseline() -> None:
    """Also a track that lies outside the span; without people each track has its own."""
    calm = frames_of([CALM] * 50)
    smiling = [Frame(100 + i, 4 + i / 25, (Face(1, (0, 0, 9, 9), 0.9, SMILE),)) for i in range(50)]
    for baseline in ("auto", "0-2"):
        shared = whole_of([*calm, *smiling], baseline, {0: 0, 1: 0}).neutral
        assert shared[0] == shared[1] == pytest.approx([log_odds(p) for p in CALM], abs=1e-3)
    own = whole_of([*calm, *smiling], "auto").neutral
    assert own[1] == pytest.approx([log_odds(p) for p in SMILE], abs=1e-3)


def test_too_few_frames_are_no_baseline() -> None:
    """A face with few frames has no baseline."""
    assert whole_of(frames_of([CALM] * 10), "auto").neutral == {}
    (frame,) = Whole().join(frames_of([CALM]))
    assert frame.faces[0].change is None


def test_auto_needs_a_neutral_label() -> None:
    """A model without a neutral label raises an error; a span works with any labels."""
    with pytest.raises(NoNeutralError):
        WholeTally(JobOptions(baseline="auto"), ("Joy", "Rage"), None)
    WholeTally(JobOptions(baseline="0-1"), ("Joy", "Rage"), None)


@pytest.mark.parametrize("wrong", ["", "Auto", "5", "5-5", "5-2", "-1-2", "1-nan", "1-2-3", "1e3-2e3", "1 - 2"])
def test_other_baselines_are_refused(wrong: str) -> None:
    """The option is `auto` or two times."""
    with pytest.raises(ValueError, match="baseline"):
        JobOptions(baseline=wrong)


def test_a_table_reads_as_it_was_written() -> None:
    """People, best frames and baselines."""
    whole = Whole({0: 0, 3: 1, 7: 0}, {0: BestFrame(5, 0.2, 7)}, {0: (1.5, -2.0), 7: (1.5, -2.0), 3: (0.0, 0.25)})
    assert Whole.decode(whole.encode()) == whole
    assert Whole.decode(Whole().encode()) == Whole()
    assert math.isfinite(log_odds(0))
    assert log_odds(1) == pytest.approx(-log_odds(0))
