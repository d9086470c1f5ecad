"""The inputs of `worker label`: clips from files and folders on the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.contract.exports import ExportFormat, suffix
from app.contract.media import HEAD_BYTES, kind_of
from worker.decode.archives import SUFFIXES
from worker.errors import UsageError


@dataclass(frozen=True)
class Clip:
    """One clip: a video, an archive, an image, or a folder of images.

    name: relative, as in outputs and messages; for clips found in a folder, their path in it.
    """

    path: Path
    name: Path

    def output(self, format: ExportFormat) -> Path:
        """Path of its output, relative to the output folder."""
        return self.name.with_name(f"{self.name.name if self.path.is_dir() else self.name.stem}.{suffix(format)}")


def find_clips(inputs: Sequence[Path], *, recursive: bool) -> list[Clip]:
    """The clips of the inputs, in order, those of a folder by name.

    A folder is one clip of its images.  recursive: it is all videos and archives below it, and each subfolder with
    images and no video.  Raises: UsageError if something is missing, or a folder has nothing to label.
    """
    missing = [str(path) for path in inputs if not path.exists()]
    if missing:
        raise UsageError(f"no such file or folder: {', '.join(missing)}")
    clips: list[Clip] = []
    for path in inputs:
        found = list(_below(path)) if recursive and path.is_dir() else [Clip(path, Path(path.resolve().name))]
        if not found:
            raise UsageError(f"{path}: there is nothing to label below this folder")
        clips += found
    return clips


def _below(folder: Path) -> Iterator[Clip]:
    for place, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        here = [Path(place, name) for name in sorted(files) if not name.startswith(".")]
        if videos := [path for path in here if _is_video(path)]:
            yield from (Clip(path, path.relative_to(folder)) for path in videos)
        elif any(path.suffix.lower() in SUFFIXES for path in here):
            inside = Path(place).relative_to(folder)
            yield Clip(Path(place), inside if inside.name else Path(folder.resolve().name))


def _is_video(path: Path) -> bool:
    """Whether a file is a clip, by its magic bytes."""
    try:
        with path.open("rb") as file:
            kind = kind_of(file.read(HEAD_BYTES))
    except OSError:  # not a regular file, or not readable
        return False
    return kind is not None and not kind.is_image
