"""Labelled videos, judged: whose label a clip gets, and what is counted, on answers that are written down by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from worker.training.judging import Following, Labelled, Seen, Steadiness, faces_of_clip, faces_of_person
from worker.training.video_report import ClipTally, as_text, frames_report
from worker.training.whole_videos import AnnotatedVideo, Clip, Side, Video

LABELS = ("Neutral", "Anger", "Happiness")
Face = tuple[int, int, float, float, tuple[float, ...]]  # frame, track, area, middle, scores


def seen(frames: int, *faces: Face, fps: float = 10) -> Seen:
    """Frames from 0 on; the two members say what the ensemble does, the second one the labels in reverse."""
    fused = np.array([face[4] for face in faces], np.float32).reshape(-1, len(LABELS))
    frame, track, area, middle = np.array([face[:4] for face in faces], np.float64).reshape(-1, 4).T
    index = np.arange(frames)
    return Seen(
        index,
        index / fps,
        frame.astype(np.int64),
        track.astype(np.int64),
        area.astype(np.float32),
        middle.astype(np.float32),
        fused,
        np.stack([fused, fused[:, ::-1]]),
    )


def one(label: int, score: float = 0.8) -> tuple[float, ...]:
    """Scores whose largest is the label's."""
    rest = (1 - score) / (len(LABELS) - 1)
    return tuple(score if k == label else rest for k in range(len(LABELS)))


def face(frame: int, label: int, *, track: int = 0, area: float = 100, middle: float = 0.5, score: float = 0.8) -> Face:
    return frame, track, area, middle, one(label, score)


def video(*clips: Clip) -> Video:
    return Video(Path(clips[0].name), clips)


def test_a_clips_label_is_that_of_its_largest_track() -> None:
    """The one with the most pixels between the clip's start and its end, whatever is larger before or beside it."""
    large = [face(k, 2, track=3, area=900) for k in range(4)]
    there = [face(k, 1, track=5, area=200) for k in range(4, 10)]
    brief = [face(4, 0, track=7, area=700)]
    found = seen(10, *large, *there, *brief)
    frames, faces = faces_of_clip(found, Clip(2, "a", 1, 0.4, math.inf))
    assert frames.tolist() == [4, 5, 6, 7, 8, 9]
    assert found.track[faces].tolist() == [5] * 6
    frames, faces = faces_of_clip(found, Clip(2, "a", 1, 0.0, 0.4))
    assert found.track[faces].tolist() == [3] * 4


def test_figures_of_clips() -> None:
    """Labelled clips with a face are counted, the others listed; means are over labels that a clip has."""
    tally = ClipTally(LABELS, ("cnn", "cnn_rnn"))
    right = [face(k, 2, score=0.9) for k in range(5)]
    # One frame of three is strongly something else, and the mean is what counts.
    wavering = [face(0, 0, score=0.5), face(1, 2, score=0.98), face(2, 0, score=0.5)]
    tally.add(Labelled(video(Clip(2, "happy.mp4", 2)), seen(10, *right)))
    tally.add(Labelled(video(Clip(3, "also.mp4", 2)), seen(3, *wavering)))
    tally.add(Labelled(video(Clip(4, "calm.mp4", 0)), seen(4, *[face(k, 1, score=0.6) for k in range(4)])))
    tally.add(Labelled(video(Clip(5, "unlabelled.mp4", -1)), seen(3, face(0, 0), face(1, 1), face(2, 0))))
    tally.add(Labelled(video(Clip(6, "empty.mp4", 0)), seen(2)))
    tally.add(Labelled(video(Clip(7, "short.mp4", 0, 5.0, 6.0)), seen(2)))
    tally.add(Labelled(video(Clip(8, "broken.mp4", 1), Clip(9, "broken.mp4", 2)), None, "no video"))
    report = tally.report()
    assert (report["n"], report["war"], report["uar"]) == (3, pytest.approx(2 / 3), pytest.approx(0.5))
    assert report["macro_f1"] == pytest.approx((0 + 1) / 2)
    assert report["confusion"] == [[0, 1, 0], [0, 0, 0], [0, 0, 2]]
    means = [0.9, (0.25 + 0.98 + 0.25) / 3, 0.6]
    assert report["ece"] == pytest.approx((0.1 + (1 - means[1]) + 0.6) / 3)
    assert report["members"]["cnn"] == {key: report[key] for key in ("war", "uar", "macro_f1", "ece")}
    assert report["members"]["cnn_rnn"]["war"] == 0
    # 2 changes in wavering's 0.2 s and 2 in unlabelled's; none in 0.4 s and 0.3 s.
    assert report["label_changes_per_s"] == pytest.approx(4 / 1.1)
    assert report["unlabelled"] == {"n": 1, "label_changes_per_s": pytest.approx(2 / 0.2)}
    assert (report["frames"], report["share_without_face"]) == (22, pytest.approx(7 / 22))
    assert [(row["line"], row["why"]) for row in report["failed"]] == [
        (6, "no face was found"),
        (7, "it has no frame from start_s to end_s"),
        (8, "no video"),
        (9, "no video"),
    ]
    assert [(row["path"], row["label"], row["predicted"]) for row in report["clips"]] == [
        ("happy.mp4", "Happiness", "Happiness"),
        ("also.mp4", "Happiness", "Happiness"),
        ("calm.mp4", "Neutral", "Anger"),
        ("unlabelled.mp4", None, "Neutral"),
    ]
    text = as_text({"data": "x.csv", "bundle": "b 1", "prior": None, "results": {"clips": report}})
    assert "line 6, empty.mp4: no face was found" in text
    assert "not judged: 4" in text


def test_without_labels_there_is_flicker_alone() -> None:
    """Metrics that need labels are null, and nothing divides by zero."""
    tally = ClipTally(LABELS, ())
    tally.add(Labelled(video(Clip(2, "a.mp4", -1)), seen(1, face(0, 0))))
    report = tally.report()
    assert (report["n"], report["war"], report["ece"], report["confusion"]) == (0, None, None, None)
    assert report["label_changes_per_s"] is None
    assert "-" in as_text({"data": "x.csv", "bundle": "b 1", "prior": 0.5, "results": {"clips": report}})


def test_changes_between_tracks_are_no_label_changes() -> None:
    """Nor do seconds between them count."""
    steadiness = Steadiness()
    steadiness.add(np.array([0.0, 1.0, 2.0, 5.0]), np.array([0, 0, 1, 1]), np.array([1, 2, 0, 0]))
    assert (steadiness.changes, steadiness.seconds, steadiness.a_second) == (1, 4.0, 0.25)


@pytest.mark.parametrize(
    ("truth", "said", "expected"),
    [
        ("0000111111", "0000011111", (1, 0, 1, 0, 1.0)),
        ("0000111111", "0000111111", (1, 0, 1, 0, 0.0)),
        ("0000111111", "0001111111", (1, 1, 0, 0, None)),
        ("0000111111", "0000000000", (1, 0, 0, 1, None)),
        ("0000111111", "0000.22.11", (1, 0, 1, 0, 4.0)),
        ("0000......", "0000011111", (0, 0, 0, 0, None)),
        ("00..111111", "0000011111", (0, 0, 0, 0, None)),
        ("0000111111", "....111111", (0, 0, 0, 0, None)),
        ("0000111000", "0000001100", (2, 0, 2, 0, 1.5)),
        ("", "", (0, 0, 0, 0, None)),
    ],
)
def test_frames_until_a_change_is_followed(
    truth: str, said: str, expected: tuple[int, int, int, int, float | None]
) -> None:
    """From the first frame with the new label; what was there before the change, or never comes, is told apart."""

    def labels(text: str) -> np.ndarray:
        return np.array([-1 if letter == "." else int(letter) for letter in text], np.int64)

    following = Following()
    following.add(labels(truth), labels(said))
    found = following.figures()
    assert (found["n"], found["early"], found["followed"], found["missed"], found["median_frames"]) == expected


def test_adjoining_clips_tell_how_soon_a_change_is_followed() -> None:
    """Through the tally: a change at 0.5 s that is labelled two frames later."""
    tally = ClipTally(LABELS, ("cnn", "cnn_rnn"))
    clips = (Clip(2, "a.mp4", 0, 0.0, 0.5), Clip(3, "a.mp4", 2, 0.5, 1.0))
    tally.add(Labelled(video(*clips), seen(10, *[face(k, 0 if k < 7 else 2) for k in range(10)])))
    report = tally.report()
    assert report["changes"]["followed"] == 1
    assert report["changes"]["median_frames"] == 2
    assert report["war"] == 1


@pytest.mark.parametrize(("side", "expected"), [("left", [1, 1, None]), ("right", [2, 2, 2]), ("", [2, 2, 2])])
def test_of_two_people_the_named_one_is_judged(side: Side, expected: list[int | None]) -> None:
    """By where they are; alone, somebody must be in that half; without a side the larger one is."""
    faces = [face(k, 0, track=1, middle=0.2) for k in (0, 1)] + [face(k, 0, track=2, area=400) for k in (0, 1, 2)]
    faces = [*faces[:2], *[(f, t, a, 0.7, s) for f, t, a, _, s in faces[2:]]]
    found = seen(3, *faces)
    chosen = {int(found.frame[k]): int(found.track[k]) for k in faces_of_person(found, side)}
    assert [chosen.get(frame) for frame in range(3)] == expected
    assert len(faces_of_person(seen(3), side)) == 0


def test_frames_are_scored_by_their_index() -> None:
    """Line i is frame i; frames without the face, without a label, or beyond the labels count for no metric."""
    labels = np.array([0, 2, 2, -1, 1], np.int64)
    found = seen(7, *[face(k, 2) for k in (0, 1, 3, 4, 5, 6)])
    broken = AnnotatedVideo(Path("b.mp4"), "b", labels, "")
    items = [
        Labelled(AnnotatedVideo(Path("a.mp4"), "a", labels, ""), found),
        Labelled(broken, None, "no such file or folder"),
    ]
    report = frames_report(items, LABELS, ("cnn", "cnn_rnn"))
    assert (report["n"], report["frames"], report["share_without_face"]) == (3, 4, 0.25)
    assert report["ensemble"]["accuracy"] == pytest.approx(1 / 3)
    assert report["ensemble"]["confusion"] == [[0, 0, 1], [0, 0, 1], [0, 0, 1]]
    assert report["members"]["cnn_rnn"]["accuracy"] == pytest.approx(1 / 3)
    assert report["failed"] == [{"path": "b", "why": "no such file or folder"}]
    text = as_text({"data": "x", "bundle": "b 1", "prior": 1.0, "results": {"annotations": report}})
    assert "annotations, 3 rows" in text
