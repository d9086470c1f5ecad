"""Frame records as text: JSON, NDJSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from app.contract.exports.content import Content
from app.contract.frames import LANDMARKS, POSE, Frame, frame_record

# CSV: columns of every row, before one per label and one per member and label.
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


# CSV: further columns with `landmarks=true`, after the scores.
LOOKS_COLUMNS = (*(f"{point}_{axis}" for point in LANDMARKS for axis in "xy"), *POSE, "sharpness", "size_px")


def json_object(frames: Iterable[Frame], content: Content) -> Iterator[str]:
    """One object with `labels` and `frames`; a line per frame."""
    lead = "".join(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}, " for name, value in content.lead)
    yield f'{{{lead}"labels": {json.dumps(content.labels)}, "frames": ['
    separator = "\n"
    for line in ndjson_lines(frames, replace(content, lead=())):
        yield separator + line.rstrip("\n")
        separator = ",\n"
    yield "\n]}\n"


def ndjson_lines(frames: Iterable[Frame], content: Content) -> Iterator[str]:
    """One frame record per line."""
    for frame in frames:
        record = dict(content.lead) | named_record(frame, content)
        yield json.dumps(record, separators=(",", ":"), ensure_ascii=False) + "\n"


def named_record(frame: Frame, content: Content) -> dict[str, Any]:
    """The public JSON of a frame, with the names of people."""
    record = frame_record(frame, content.labels, content.members, content.late)
    if content.names is not None:
        for face in record["faces"]:
            face["person_name"] = content.names.get(face["track_id"])
    return record


def table_header(content: Content) -> list[str]:
    """Column names: `lead`, the fixed ones, one per label, requested fields, then `MEMBER_LABEL`."""
    own = [f"{member}_{label}" for member in content.members for label in content.labels]
    looks = LOOKS_COLUMNS if content.landmarks else ()
    late = ["person_id"] if "person_id" in content.late else []
    late += [f"change_{label}" for label in content.labels if "change" in content.late]
    names = [] if content.names is None else ["person_name"]
    return [*dict(content.lead), *CSV_COLUMNS, *content.labels, *looks, *late, *own, *names]


def csv_rows(frames: Iterable[Frame], content: Content) -> Iterator[str]:
    """A header, then a row per face and frame; a frame without faces has a row with empty face columns (RFC 4180)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    if content.header:
        writer.writerow(table_header(content))
    for row in table_rows(frames, content):
        writer.writerow(row)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def table_rows(frames: Iterable[Frame], content: Content) -> Iterator[list[object]]:
    """Rows for `table_header`, one per face and frame; None for missing values, as for a frame without faces."""
    width = len(table_header(content))
    lead = [value for _, value in content.lead]
    for frame in frames:
        record = named_record(frame, content)
        first: list[object] = [*lead, frame.frame_index, frame.timestamp_s]
        for face in record["faces"]:
            shown = [face["track_id"], *face["bbox"], face["detection_score"], face["label"], face["score"]]
            own = [score for member in content.members for score in face["members"][member].values()]
            looks = _looks(face) if content.landmarks else []
            names = [] if content.names is None else [face["person_name"]]
            yield [*first, *shown, *face["scores"].values(), *looks, *_late(face, content), *own, *names]
        if not record["faces"]:
            yield [*first, *[None] * (width - len(first))]


def _looks(face: dict[str, Any]) -> list[object]:
    if "landmarks" not in face:
        return [None] * len(LOOKS_COLUMNS)
    points = (value for point in face["landmarks"] for value in point)
    return [*points, *face["pose"].values(), face["sharpness"], face["size_px"]]


def _late(face: dict[str, Any], content: Content) -> list[object]:
    cells = [face[name] for name in content.late if name == "person_id"]
    if "change" in content.late:
        cells += [None] * len(content.labels) if face["change"] is None else face["change"].values()
    return cells
