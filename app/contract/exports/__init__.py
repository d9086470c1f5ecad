"""Export formats of frame records, written in pieces, so that files of any length stream in constant memory.

The API and `python -m worker label` write all records with these functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, starmap
from typing import Literal

from app.contract.exports import parquet as parquet_file
from app.contract.exports.captions import srt_cues, vtt_cues
from app.contract.exports.content import Content
from app.contract.exports.openface import openface
from app.contract.exports.parquet import MissingLibraryError, parquet, parquet_table
from app.contract.exports.segmented import eaf, textgrid
from app.contract.exports.text import csv_rows, json_object, ndjson_lines, table_rows
from app.contract.frames import Frame

ExportFormat = Literal["json", "ndjson", "csv", "vtt", "srt", "parquet", "eaf", "openface", "textgrid"]
MEDIA_TYPES: dict[ExportFormat, str] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "eaf": "text/x-eaf+xml; charset=utf-8",
    "openface": "text/csv; charset=utf-8",
    "textgrid": "text/plain; charset=utf-8",
}
SUFFIXES: dict[ExportFormat, str] = {"openface": "openface.csv", "textgrid": "TextGrid"}  # else as the format
MANY_CLIPS: frozenset[ExportFormat] = frozenset({"json", "ndjson", "csv"})  # a file can hold several clips

_WRITERS: dict[ExportFormat, Callable[[Iterable[Frame], Content], Iterator[str] | Iterator[bytes]]] = {
    "json": json_object,
    "ndjson": ndjson_lines,
    "csv": csv_rows,
    "vtt": vtt_cues,
    "srt": srt_cues,
    "parquet": parquet,
    "eaf": eaf,
    "openface": openface,
    "textgrid": textgrid,
}

__all__ = [
    "MANY_CLIPS",
    "MEDIA_TYPES",
    "SUFFIXES",
    "ExportFormat",
    "MissingLibraryError",
    "check",
    "export",
    "export_clips",
    "suffix",
]


def export(frames: Iterable[Frame], format: ExportFormat, content: Content) -> Iterator[bytes]:
    """The whole file in `format`, in pieces.  frames: in order.  Raises: MissingLibraryError, at the first piece."""
    for piece in _WRITERS[format](frames, content):
        yield piece.encode() if isinstance(piece, str) else piece


def export_clips(
    clips: Iterable[tuple[Iterable[Frame], Content]], format: Literal["csv", "ndjson", "parquet"], columns: Content
) -> Iterator[bytes]:
    """Several clips in one file, one after the other; `lead` of their contents tells them apart.

    columns: a content with the columns of all of them, which in tables are the same.  Raises: MissingLibraryError.
    """
    if format == "parquet":
        yield from parquet_table(chain.from_iterable(starmap(table_rows, clips)), columns)
        return
    if format == "csv":
        yield from export((), format, columns)
    for frames, content in clips:
        yield from export(frames, format, replace(content, header=False))


def check(format: ExportFormat) -> None:
    """Raises: MissingLibraryError if the format needs a library that is not installed."""
    if format == "parquet":
        parquet_file.load()


def suffix(format: ExportFormat) -> str:
    """The file name extension, without the dot."""
    return SUFFIXES.get(format, format)
