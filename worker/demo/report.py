"""The results for display: a table by second and track, and one picture."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
from rich.table import Table

from app.contract.frames import Face, Frame
from worker.decode import DecodeLimits, UndecodableInputError
from worker.decode.video import VideoSource
from worker.demo import DemoError
from worker.jobs.annotate import draw

MOST_ROWS = 120  # of the printed table; the CSV has all


@dataclass
class _Cell:
    """One track in one second: sums of its scores."""

    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    frames: int = 0

    def means(self) -> dict[str, float]:
        return {label: total / self.frames for label, total in self.sums.items()}


@dataclass
class Summary:
    """Frame records by second and track.  best: the record with the most certain label, or the first record."""

    frames: int = 0
    with_faces: int = 0
    best: Mapping[str, Any] | None = None
    cells: dict[tuple[int, int], _Cell] = field(default_factory=lambda: defaultdict(_Cell))

    @staticmethod
    def of(records: Iterable[Mapping[str, Any]]) -> Summary:
        """Read the records once; memory grows with seconds and tracks only."""
        summary = Summary()
        for record in records:
            summary._add(record)
        return summary

    def _add(self, record: Mapping[str, Any]) -> None:
        self.frames += 1
        self.with_faces += bool(record["faces"])
        if self.best is None or _certainty(record) > _certainty(self.best):
            self.best = record
        for face in record["faces"]:
            cell = self.cells[int(record["timestamp_s"]), face["track_id"]]
            cell.frames += 1
            for label, score in face["scores"].items():
                cell.sums[label] += score

    def table(self, labels: list[str]) -> Table:
        """A row per second and track: the label with the highest mean score, and the mean scores of all labels."""
        table = Table(title="Mean scores by second and track", title_justify="left")
        for name in ("second", "track", "frames"):
            table.add_column(name, justify="right")
        table.add_column("label")
        for label in labels:
            table.add_column(label, justify="right")
        for (second, track), cell in sorted(self.cells.items())[:MOST_ROWS]:
            means = cell.means()
            top = max(means, key=means.__getitem__)
            scores = [f"[bold]{means[name]:.2f}[/]" if name == top else f"{means[name]:.2f}" for name in labels]
            table.add_row(str(second), str(track), str(cell.frames), top, *scores)
        if len(self.cells) > MOST_ROWS:
            table.caption = f"the first {MOST_ROWS} of {len(self.cells)} rows; the CSV has every frame"
        return table

    def verdict(self) -> str:
        """One line: the number of frames with faces, and the seconds of each label."""
        line = f"{self.frames} frames, {self.with_faces} with faces."
        if not self.cells:
            return f"{line} No face was found."
        tops = Counter(max(means, key=means.__getitem__) for means in (cell.means() for cell in self.cells.values()))
        return f"{line} Seconds per label, all tracks: " + ", ".join(f"{n} {name}" for name, n in tops.most_common())


def draw_frame(video: Path, record: Mapping[str, Any], labels: list[str], path: Path) -> None:
    """Write the record's frame with its boxes and labels as a PNG."""
    faces = tuple(
        Face(face["track_id"], tuple(face["bbox"]), face["detection_score"], tuple(face["scores"].values()))
        for face in record["faces"]
    )
    try:
        source = VideoSource(video, DecodeLimits(max_frames=sys.maxsize, max_pixels=sys.maxsize))
    except UndecodableInputError:
        raise DemoError(f"{video} is labelled, but no picture is drawn: it is not a video") from None
    with closing(source):
        image = next((frame.image for frame in source.frames() if frame.frame_index == record["frame_index"]), None)
    if image is None:
        raise DemoError(f"{video} has no frame {record['frame_index']}")
    picture = draw(image, Frame(record["frame_index"], record["timestamp_s"], faces), labels)
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise DemoError(f"cannot write {path}")


def _certainty(record: Mapping[str, Any]) -> float:
    return max((face["score"] for face in record["faces"]), default=0.0)
