"""Labelled videos for `evaluate --layout clips`: a CSV of clips, or Aff-Wild2's label files beside its videos.

The CSV has the columns `path,label` and may have `start_s,end_s`: a row is a clip, a whole video (or a folder of
images) or the part of it from `start_s` up to `end_s`.  path: relative to the CSV.  label: empty where there is none.

Aff-Wild2's folder holds `<video>.txt` (a header of label names, then one integer a frame, -1 unlabelled) in
`EXPR_Set/Validation_Set`, or directly, and the videos of these names anywhere below.  `<video>_left` and
`<video>_right` are two people of one video.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from worker.training.affwild2 import annotation_files, read_annotation
from worker.training.errors import DataError
from worker.training.label_names import LabelNames
from worker.training.manifest_csv import read_table
from worker.training.video_index import UNLABELLED

GAP_S = 1.0  # clips of a video with a smaller gap are labelled together
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".flv", ".wmv", ".mpg", ".ts"})
NOT_SCORED = "other"  # Aff-Wild2's eighth label, which bundles with seven do not have
Side = Literal["", "left", "right"]


@dataclass(frozen=True)
class Clip:
    """A row of the CSV.  label: the bundle's index, -1 for none.  start_s, end_s: 0 and infinity for a whole video."""

    line: int
    name: str
    label: int
    start_s: float = 0.0
    end_s: float = math.inf


@dataclass(frozen=True)
class Video:
    """What is labelled in one go: clips of one video that adjoin or overlap, in the order of their starts."""

    path: Path
    clips: tuple[Clip, ...]

    @property
    def start_s(self) -> float | None:
        """None for the video's start."""
        return self.clips[0].start_s or None

    @property
    def end_s(self) -> float | None:
        """None for the video's end."""
        end_s = max(clip.end_s for clip in self.clips)
        return None if math.isinf(end_s) else end_s


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video with a label a frame.  labels: (N,) the bundle's index of frames 0.., -1 where none is scored.

    side: which of two people is meant; "" where there is one, or nobody says.
    """

    path: Path
    name: str
    labels: npt.NDArray[np.int64]
    side: Side


def read_videos(data: Path, names: LabelNames) -> list[Video] | list[AnnotatedVideo]:
    """A CSV's videos, or a folder's.  Raises: DataError."""
    return read_affwild2_videos(data, names) if data.is_dir() else read_clips(data, names)


def read_clips(path: Path, names: LabelNames) -> list[Video]:
    """The videos of a CSV.  That a file is missing shows when it is its turn.

    Raises: DataError, which names the line: for a missing column, a label that is unknown, a part that cannot be.
    """
    clips = read_table(path, lambda line, values: _clip(path, line, values, names))
    by_path: dict[str, list[Clip]] = {}
    for clip in clips:
        by_path.setdefault(clip.name, []).append(clip)
    return [Video(path.parent / name, part) for name, found in by_path.items() for part in _parts(found)]


def read_affwild2_videos(root: Path, names: LabelNames) -> list[AnnotatedVideo]:
    """The annotated videos of the folder.  Raises: DataError for a label file that is malformed or has no video."""
    videos: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            videos.setdefault(path.stem, path)
    found = []
    for file in annotation_files(root):
        header, labels = read_annotation(file)
        side: Side = "left" if file.stem.endswith("_left") else "right" if file.stem.endswith("_right") else ""
        shown = videos.get(file.stem) or videos.get(re.sub("_(left|right)$", "", file.stem))
        if shown is None:
            raise DataError(f"{file} labels a missing video: no {file.stem}.mp4, .avi, ... below {root}")
        if file.stem in videos:
            side = ""
        found.append(AnnotatedVideo(shown, file.stem, _indices(file, header, names)[labels], side))
    return found


def _clip(path: Path, line: int, values: dict[str, str | None], names: LabelNames) -> Clip:
    def value(name: str) -> str:
        return (values.get(name) or "").strip()

    def seconds(name: str, default: float) -> float:
        try:
            found = float(value(name) or default)
        except ValueError:
            found = math.nan
        if not found >= 0:
            raise DataError(f"{path}, line {line}: {name} must be seconds from 0 on, got {value(name)!r}")
        return found

    if not value("path"):
        raise DataError(f"{path}, line {line}: path is empty")
    label = names.index(value("label")) if value("label") else UNLABELLED
    if label is None:
        raise DataError(
            f"{path}, line {line}: no label {value('label')!r}; there are {names.accepted()}. Leave the label "
            "empty, or the row out, where none of them is meant"
        )
    start_s, end_s = seconds("start_s", 0.0), seconds("end_s", math.inf)
    if end_s <= start_s:
        raise DataError(f"{path}, line {line}: end_s ({end_s:g}) must be greater than start_s ({start_s:g})")
    return Clip(line, value("path"), label, start_s, end_s)


def _parts(clips: list[Clip]) -> list[tuple[Clip, ...]]:
    parts: list[list[Clip]] = []
    end_s = -math.inf
    for clip in sorted(clips, key=lambda clip: (clip.start_s, clip.line)):
        if clip.start_s > end_s + GAP_S:
            parts.append([])
        parts[-1].append(clip)
        end_s = max(end_s, clip.end_s)
    return [tuple(part) for part in parts]


def _indices(file: Path, header: tuple[str, ...], names: LabelNames) -> npt.NDArray[np.int64]:
    """(len(header) + 1,) the bundle's index of each name, -1 where it is not scored; the last entry is unlabelled."""
    found = []
    for name in header:
        index = names.index(name)
        if index is None and name.lower() != NOT_SCORED:
            raise DataError(f"{file} has the label {name!r}; there are {names.accepted()}")
        found.append(UNLABELLED if index is None else index)
    return np.array([*found, UNLABELLED], np.int64)
