"""The Aff-Wild2 layout, as distributed by its owners.

    Annotation/annotations/EXPR_Set/{Train_Set,Validation_Set}/<video>.txt      header, then one integer a frame
    Cropped_aligned_image/cropped_aligned/<video>/00001.jpg ...                 line i (from 0) is image i + 1

The third ABAW challenge names the folder EXPR_Classification_Challenge and has an eighth label, Other.  Frames without
a face have no image; there may be one label more than frames.  Videos of two people appear as <video>_left and
<video>_right, some with the plain name for one of the two: each is a separate video.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from worker.training.errors import DataError
from worker.training.video_index import UNLABELLED, Split, Video

ANNOTATION_FOLDERS = ("EXPR_Set", "EXPR_Classification_Challenge")
IMAGE_FOLDER = "cropped_aligned"
SPLITS = {"train": "Train_Set", "validation": "Validation_Set"}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def read_affwild2(root: Path, split: str) -> Split:
    """Index one split, `train` or `validation`; nothing is decoded.

    Raises: DataError if a folder or a video's images are missing, or a label is out of range.
    """
    annotations = _folder(root, ANNOTATION_FOLDERS) / SPLITS[split]
    images = _folder(root, (IMAGE_FOLDER,))
    files = sorted(annotations.glob("*.txt"))
    if not files:
        raise DataError(f"{annotations} holds no annotation files (<video>.txt)")
    names: tuple[str, ...] | None = None
    videos = []
    for file in files:
        header, labels = read_annotation(file)
        if names is not None and header != names:
            raise DataError(f"{file} has the labels {','.join(header)}, other files have {','.join(names)}")
        names = header
        videos.append(_video(file, images / file.stem, labels))
    return Split(split, names or (), tuple(videos))


def annotation_files(root: Path) -> list[Path]:
    """The label files of the validation split, or those in the folder itself, as in users' own data.

    Raises: DataError if there are none.
    """
    annotations = _find(root, ANNOTATION_FOLDERS)
    folder = root if annotations is None else annotations / SPLITS["validation"]
    if not (files := sorted(folder.glob("*.txt"))):
        raise DataError(f"{folder} holds no annotation files (<video>.txt)")
    return files


def read_annotation(file: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """A label file -> its header's names, and (N,) int64 labels of frames 0.., -1 unlabelled.

    Raises: DataError, which names file and line.
    """
    lines = file.read_text(encoding="utf-8-sig").split()
    names = tuple(name.strip() for name in lines[0].split(",")) if lines else ()
    if len(names) < 2:
        raise DataError(f"{file} must start with a line of label names, comma separated")
    try:
        labels = np.array(lines[1:], np.int64)
    except ValueError:
        raise DataError(f"{file} must hold one whole number a line after its header") from None
    wrong = np.flatnonzero((labels < UNLABELLED) | (labels >= len(names)))
    if len(wrong):
        raise DataError(
            f"{file}, line {wrong[0] + 2}: label {labels[wrong[0]]} is outside -1..{len(names) - 1} ({','.join(names)})"
        )
    return names, labels


def _video(file: Path, folder: Path, labels: np.ndarray) -> Video:
    try:
        with os.scandir(folder) as entries:
            found = {_number(entry.name): entry.name for entry in entries}
    except FileNotFoundError:
        raise DataError(f"{file} labels a video whose images are missing: no folder {folder}") from None
    # The label of image n is at n - 1; images beyond the labels and labels beyond the images are left out.
    numbers = sorted(number for number in found if number is not None and 1 <= number <= len(labels))
    if not numbers:
        raise DataError(f"{folder} holds no image for any label of {file.name}; expected 00001.jpg and so on")
    images = tuple(folder / found[number] for number in numbers)
    return Video(file.stem, images, labels[np.array(numbers) - 1])


def _number(name: str) -> int | None:
    stem, suffix = os.path.splitext(name)
    return int(stem) if suffix.lower() in IMAGE_SUFFIXES and stem.isdigit() else None


def _folder(root: Path, names: tuple[str, ...]) -> Path:
    found = _find(root, names)
    if found is None:
        raise DataError(f"{root} holds no folder {' or '.join(names)}; is it the Aff-Wild2 folder?")
    return found


def _find(root: Path, names: tuple[str, ...]) -> Path | None:
    """The folder of one of these names at most three levels below the root."""
    for pattern in ("", "*/", "*/*/"):
        for name in names:
            found = sorted(path for path in root.glob(pattern + name) if path.is_dir())
            if found:
                return found[0]
    return None
