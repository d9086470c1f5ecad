"""The `manifest` layout: a CSV of face crops.

    path,label[,video,frame_index,split]

path: relative to the CSV.  label: a name, or an index into the seven labels; empty or -1 is unlabelled.  video and
frame_index put frames into clips; without a video every row is a clip of one frame.  split: `train` or `validation`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from worker.training.errors import DataError
from worker.training.stills import LABELS
from worker.training.video_index import UNLABELLED, Split, Video

SPLIT_NAMES = {"": "", "train": "train", "training": "train", "validation": "validation", "valid": "validation"}
SPLIT_NAMES |= {"val": "validation"}
HELD_OUT = 0.1
Converted = TypeVar("Converted")


@dataclass(frozen=True)
class Row:
    """A line of the CSV."""

    image: Path
    label: str
    video: str
    frame_index: int
    split: str


def read_rows(path: Path) -> list[Row]:
    """Every row, checked.  Raises: DataError for a missing file, column or image, or a malformed value."""
    return read_table(path, lambda line, values: _row(path, line, values))


def read_table(path: Path, convert: Callable[[int, dict[str, str | None]], Converted]) -> list[Converted]:
    """Every row of a CSV with the columns `path,label`, converted from its line number and its values by column.

    Raises: DataError for a missing file or column and for a file without rows; whatever `convert` raises.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"path", "label"} - set(reader.fieldnames or ())
            if missing:
                raise DataError(f"{path} lacks the column {sorted(missing)[0]!r}; it needs path,label")
            rows = [convert(reader.line_num, values) for values in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not rows:
        raise DataError(f"{path} has no rows")
    return rows


def label_names(rows: Sequence[Row]) -> tuple[str, ...]:
    """The seven labels if all rows use them (by name or index), otherwise all names in alphabetical order."""
    used = {row.label for row in rows} - {"", "-1"}
    known = set(LABELS) | {str(k) for k in range(len(LABELS))}
    return LABELS if used <= known else tuple(sorted(used))


def split_of(rows: Sequence[Row], name: str, labels: tuple[str, ...]) -> Split:
    """Rows as videos.  Raises: DataError for a label that is not one of `labels`."""
    indices = {label: k for k, label in enumerate(labels)} | {"": UNLABELLED, "-1": UNLABELLED}
    if labels[: len(LABELS)] == LABELS:
        indices |= {str(k): k for k in range(len(LABELS))}
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.label not in indices:
            raise DataError(f"label {row.label!r} of {row.image} is not one of {', '.join(labels)}")
        groups.setdefault(row.video, []).append(row)
    videos = []
    for video, members in groups.items():
        members.sort(key=lambda row: row.frame_index)
        found = np.array([indices[row.label] for row in members], np.int64)
        videos.append(Video(video, tuple(row.image for row in members), found))
    return Split(name, labels, tuple(videos))


def train_and_validation(rows: list[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """Split by the column `split`; without it, whole videos are drawn for validation."""
    if any(row.split for row in rows):
        parts = tuple([row for row in rows if row.split == name] for name in ("train", "validation"))
    else:
        videos = sorted({row.video for row in rows})
        order = np.random.default_rng(seed).permutation(len(videos))
        held = {videos[k] for k in order[: max(round(len(videos) * HELD_OUT), 1)]}
        parts = tuple([row for row in rows if (row.video in held) == wanted] for wanted in (False, True))
    if not all(parts):
        raise DataError("the CSV gives no rows for both training and validation: add a split column or more videos")
    return parts[0], parts[1]


def _row(path: Path, line: int, values: dict[str, str | None]) -> Row:
    def value(name: str) -> str:
        return (values.get(name) or "").strip()

    image = path.parent / value("path")
    if not value("path") or not image.is_file():
        raise DataError(f"{path}, line {line}: no image {value('path')!r}")
    if value("split").lower() not in SPLIT_NAMES:
        raise DataError(f"{path}, line {line}: split must be train or validation, got {value('split')!r}")
    try:
        frame_index = int(value("frame_index") or line)
    except ValueError:
        raise DataError(f"{path}, line {line}: frame_index must be a whole number") from None
    split = SPLIT_NAMES[value("split").lower()]
    return Row(image, value("label"), value("video") or value("path"), frame_index, split)
