"""Outputs of `worker label`: a file per clip, or standard output for all clips."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from app.contract.exports import MANY_CLIPS, ExportFormat
from worker.commands.label_inputs import Clip
from worker.errors import UsageError

IN_MEMORY = 16 * 2**20  # characters of a clip in memory before they are spooled

Lead = tuple[tuple[str, str], ...]


class FolderOutput:
    """A file `<name>.<format>` for each clip.  skip_existing: clips with an existing file are skipped."""

    lead: Lead = ()
    header = True

    def __init__(self, folder: Path, format: ExportFormat, clips: Sequence[Clip], *, skip_existing: bool) -> None:
        """Raises: UsageError if it is not a folder, or clips would share a file."""
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--out {folder} is a file: name a folder")
        names = [clip.output(format) for clip in clips]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(
                f"several inputs would be written to {folder / twice}: label them into folders of their own"
            )
        self._folder = folder
        self._format = format
        self._skip_existing = skip_existing

    def begin(self, clip: Clip) -> bool:
        """Whether the clip is to be labelled."""
        return not (self._skip_existing and self._path(clip).exists())

    def write(self, clip: Clip, pieces: Iterable[bytes]) -> None:
        """Write a file atomically."""
        path = self._path(clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.part")
        try:
            with beside.open("wb") as file:
                file.writelines(pieces)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)

    def end(self) -> None:
        """No operation."""

    def _path(self, clip: Clip) -> Path:
        return self._folder / clip.output(self._format)


class StreamOutput:
    """Standard output, one document for all clips; with several clips each is written completely or not at all."""

    def __init__(self, format: ExportFormat, count: int) -> None:
        """Raises: UsageError if the format can hold one clip only."""
        if count > 1 and format not in MANY_CLIPS:
            raise UsageError(f"--format {format} of several inputs needs --out FOLDER")
        self._single = count == 1
        self._binary = format == "parquet"
        self._array = count > 1 and format == "json"
        self._written = 0
        self._clip: Clip | None = None

    def begin(self, clip: Clip) -> bool:
        """Whether the clip is to be labelled: always."""
        self._clip = clip
        return True

    @property
    def lead(self) -> Lead:
        """The column that distinguishes several clips."""
        return () if self._single or self._clip is None else (("file", self._clip.name.as_posix()),)

    @property
    def header(self) -> bool:
        """Whether the table still needs its header."""
        return self._written == 0

    def write(self, clip: Clip, pieces: Iterable[bytes]) -> None:
        """Add a clip."""
        if self._single:
            for piece in pieces:
                if self._binary:
                    sys.stdout.buffer.write(piece)
                else:
                    sys.stdout.write(piece.decode())
            self._written += 1
            return
        with tempfile.SpooledTemporaryFile(IN_MEMORY, "w+", encoding="utf-8", newline="") as whole:
            whole.writelines(piece.decode() for piece in pieces)
            whole.seek(0)
            if self._array:
                sys.stdout.write(",\n" if self._written else "[\n")
            shutil.copyfileobj(whole, sys.stdout)
        self._written += 1

    def end(self) -> None:
        """Close the document."""
        if self._array:
            sys.stdout.write("]\n" if self._written else "[]\n")
        sys.stdout.flush()
