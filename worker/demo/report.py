"""What came back, for people: a table by second and track, and one picture."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.table import Table

from app.contract.colours import colours, rgb
from worker.demo import DemoError

MOST_ROWS = 120  # of a table that people read; the CSV has all


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
    best: dict[str, Any] | None = None
    cells: dict[tuple[int, int], _Cell] = field(default_factory=lambda: defaultdict(_Cell))

    @staticmethod
    def of(records: Iterable[dict[str, Any]]) -> Summary:
        """Read the records once; memory grows with seconds and tracks only."""
        summary = Summary()
        for record in records:
            summary._add(record)
        return summary

    def _add(self, record: dict[str, Any]) -> None:
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
        """A row a second and track: the label with the highest mean score, and the mean scores of all labels."""
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
        """One line: how many frames had faces, and what they showed for how many seconds."""
        line = f"{self.frames} frames, {self.with_faces} with faces."
        if not self.cells:
            return f"{line} No face was found."
        tops = Counter(max(means, key=means.__getitem__) for means in (cell.means() for cell in self.cells.values()))
        return f"{line} Seconds per label, all tracks: " + ", ".join(f"{n} {name}" for name, n in tops.most_common())


def draw(video: Path, record: dict[str, Any], labels: list[str], path: Path) -> None:
    """Write the record's frame with its boxes and labels as a PNG."""
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
    for _ in range(record["frame_index"] + 1):
        if not capture.grab():
            raise DemoError(f"{video} has no frame {record['frame_index']}")
    picture = np.asarray(capture.retrieve()[1], np.uint8)
    capture.release()
    palette = colours(labels)
    scale = max(0.5, picture.shape[0] / 720)
    for face in record["faces"]:
        x, y, width, height = (round(value) for value in face["bbox"])
        bgr = rgb(palette[face["label"]])[::-1]
        text = f"{face['label']} {face['score']:.2f}"
        (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        top = max(y, text_height + 8)  # the text stays inside the picture
        cv2.rectangle(picture, (x, y), (x + width, y + height), bgr, 2)
        cv2.rectangle(picture, (x, top - text_height - 8), (x + text_width + 8, top), bgr, cv2.FILLED)
        cv2.putText(
            picture, text, (x + 4, top - 4), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, lineType=cv2.LINE_AA
        )
    if not cv2.imwrite(str(path), picture):
        raise DemoError(f"cannot write {path}")


def _certainty(record: dict[str, Any]) -> float:
    return max((face["score"] for face in record["faces"]), default=0.0)
