"""Frame records as text: JSON, NDJSON, CSV and WebVTT, a piece at a time, so that any length streams with flat memory.

The API and `python -m worker label` write records with these functions and no others.  Every function takes frames in
order, the labels in score order, and the names of the members to show (none: fused scores only; otherwise all of the
job's members, in the job's order).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from app.contract.frames import Frame, frame_record

ExportFormat = Literal["json", "ndjson", "csv", "vtt"]
MEDIA_TYPES: dict[ExportFormat, str] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}

# CSV: columns of every row, before one column a label and one a member and label.
CSV_COLUMNS = (
    "frame_index",
    "timestamp_s",
    "track_id",
    "x",
    "y",
    "width",
    "height",
    "detection_score",
    "label",
    "score",
)

_LAST_CUE_S = 1 / 25  # how long a cue of one single frame shows, where no other frame tells the frame rate


def export(
    frames: Iterable[Frame], format: ExportFormat, labels: Sequence[str], members: Sequence[str] = ()
) -> Iterator[str]:
    """The whole text of `format`, in pieces."""
    writers = {"json": json_object, "ndjson": ndjson_lines, "csv": csv_rows, "vtt": vtt_cues}
    return writers[format](frames, labels, members)


def json_object(frames: Iterable[Frame], labels: Sequence[str], members: Sequence[str] = ()) -> Iterator[str]:
    """One object with `labels` and `frames`; a line a frame."""
    yield f'{{"labels": {json.dumps(list(labels))}, "frames": ['
    separator = "\n"
    for line in ndjson_lines(frames, labels, members):
        yield separator + line.rstrip("\n")
        separator = ",\n"
    yield "\n]}\n"


def ndjson_lines(frames: Iterable[Frame], labels: Sequence[str], members: Sequence[str] = ()) -> Iterator[str]:
    """One frame record a line."""
    for frame in frames:
        yield json.dumps(frame_record(frame, labels, members), separators=(",", ":"), ensure_ascii=False) + "\n"


def csv_header(labels: Sequence[str], members: Sequence[str] = ()) -> list[str]:
    """Column names: the fixed ones, a column a label, then `MEMBER_LABEL` for every member and label."""
    return [*CSV_COLUMNS, *labels, *(f"{member}_{label}" for member in members for label in labels)]


def csv_rows(frames: Iterable[Frame], labels: Sequence[str], members: Sequence[str] = ()) -> Iterator[str]:
    """A header, then a row a face a frame, and a row with empty face columns for a frame without faces (RFC 4180)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    header = csv_header(labels, members)

    def rows_so_far() -> str:
        text = buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        return text

    writer.writerow(header)
    yield rows_so_far()
    for frame in frames:
        record = frame_record(frame, labels, members)
        first: list[object] = [frame.frame_index, frame.timestamp_s]
        for face in record["faces"]:
            shown = [face["track_id"], *face["bbox"], face["detection_score"], face["label"], face["score"]]
            own = [score for member in members for score in face["members"][member].values()]
            writer.writerow([*first, *shown, *face["scores"].values(), *own])
        if not record["faces"]:
            writer.writerow([*first, *[""] * (len(header) - len(first))])
        yield rows_so_far()


def vtt_cues(frames: Iterable[Frame], labels: Sequence[str], members: Sequence[str] = ()) -> Iterator[str]:
    """WebVTT captions: a cue for every run of frames that show the same faces with the same labels.

    A cue has a line a face, `<v Face 0>Happiness 0.88`, with the mean score of the run; it ends where the next run
    begins.  Cues are in order of time and never overlap; frames without faces have none.  `members` is not shown.
    """
    yield "WEBVTT\n"
    run: _Run | None = None
    interval_s = _LAST_CUE_S
    previous_s = 0.0
    for frame in frames:
        shown = _shown(frame, labels)
        if run is not None:
            interval_s = max(frame.timestamp_s - previous_s, 0.001)
        previous_s = frame.timestamp_s
        if run is None or run.faces != tuple(face[:2] for face in shown):
            if run is not None:
                yield from run.cue(frame.timestamp_s)
            run = _Run(frame.timestamp_s, tuple(face[:2] for face in shown), [0.0] * len(shown))
        run.add([score for _, _, score in shown])
    if run is not None:
        yield from run.cue(previous_s + interval_s)


def _shown(frame: Frame, labels: Sequence[str]) -> list[tuple[int, str, float]]:
    """Track, label and score of each face, by track."""
    best = [(face, max(range(len(labels)), key=face.scores.__getitem__)) for face in frame.faces]
    return sorted((face.track_id, labels[k], face.scores[k]) for face, k in best)


@dataclass
class _Run:
    """Consecutive frames with the same faces and labels.  faces: track and label; sums: of each face's score."""

    start_s: float
    faces: tuple[tuple[int, str], ...]
    sums: list[float]
    frames: int = field(default=0)

    def add(self, scores: Sequence[float]) -> None:
        self.sums = [total + score for total, score in zip(self.sums, scores, strict=True)]
        self.frames += 1

    def cue(self, end_s: float) -> Iterator[str]:
        if not self.faces:
            return
        start_ms = round(self.start_s * 1000)
        end_ms = max(round(end_s * 1000), start_ms + 1)
        lines = [
            f"<v Face {track}>{_escape(label)} {total / self.frames:.2f}"
            for (track, label), total in zip(self.faces, self.sums, strict=True)
        ]
        yield f"\n{_clock(start_ms)} --> {_clock(end_ms)}\n" + "\n".join(lines) + "\n"


def _clock(milliseconds: int) -> str:
    seconds, ms = divmod(max(milliseconds, 0), 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
