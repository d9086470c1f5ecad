"""The demo's table and picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
from rich.console import Console

from worker.demo import DemoError
from worker.demo.clip import make_clip
from worker.demo.processes import Process
from worker.demo.report import Summary, draw_frame

LABELS = ["Neutral", "Happiness"]


def record(index: int, *happiness: float) -> dict[str, Any]:
    """A frame at 2 frames a second with a face for each score."""
    faces = [
        {
            "track_id": track,
            "bbox": [200.0, 60.0, 150.0, 150.0],
            "detection_score": 0.9,
            "label": LABELS[score >= 0.5],
            "score": max(score, 1 - score),
            "scores": {"Neutral": 1 - score, "Happiness": score},
        }
        for track, score in enumerate(happiness)
    ]
    return {"frame_index": index, "timestamp_s": index / 2, "faces": faces}


def test_table_has_a_row_a_second_and_track_with_mean_scores() -> None:
    """Scores are averaged over a track's frames of one second, and the label is that of the mean."""
    summary = Summary.of([record(0, 0.9, 0.2), record(1, 0.7), record(2), record(3, 0.1)])
    assert (summary.frames, summary.with_faces) == (4, 3)
    console = Console(width=120)
    with console.capture() as captured:
        console.print(summary.table(LABELS))
    rows = [line.replace("│", " ").split() for line in captured.get().splitlines() if line.startswith("│")]
    assert rows == [
        ["0", "0", "2", "Happiness", "0.20", "0.80"],
        ["0", "1", "1", "Neutral", "0.80", "0.20"],
        ["1", "0", "1", "Neutral", "0.90", "0.10"],
    ]
    assert "2 Neutral, 1 Happiness" in summary.verdict()


def test_video_without_faces_is_said_so() -> None:
    """No face is an answer, not an error."""
    summary = Summary.of(record(index) for index in range(5))
    assert summary.verdict() == "5 frames, 0 with faces. No face was found."
    assert summary.best == record(0)


def test_picture_shows_the_most_certain_frame(tmp_path: Path) -> None:
    """The PNG is that source frame with something drawn where the face is."""
    video = make_clip(tmp_path / "clip.mp4")
    summary = Summary.of([record(0, 0.6), record(7, 0.95), record(9, 0.7)])
    assert summary.best is not None
    assert summary.best["frame_index"] == 7
    draw_frame(video, summary.best, LABELS, tmp_path / "with.png")
    draw_frame(video, {**summary.best, "faces": []}, LABELS, tmp_path / "without.png")
    drawn, plain = cv2.imread(str(tmp_path / "with.png")), cv2.imread(str(tmp_path / "without.png"))
    assert drawn is not None
    assert plain is not None
    assert drawn.shape == plain.shape == (360, 640, 3)
    assert (drawn[60, 210:340] != plain[60, 210:340]).any()
    assert (drawn[300:] == plain[300:]).all()


def test_process_that_ends_early_shows_its_log(tmp_path: Path) -> None:
    """A service that dies is named with its status and its last words."""
    process = Process("worker", ["/bin/sh", "-c", "echo the reason; exit 3"], {}, tmp_path)
    process._child.wait(10)
    with pytest.raises(DemoError, match=r"(?s)worker ended with status 3.*the reason"):
        process.check()
    process.stop()
