"""Frame records as files, a piece at a time, so that any length streams with flat memory.

The API and `python -m worker label` write records with these functions and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from app.contract.exports.captions import vtt_cues
from app.contract.exports.content import Content
from app.contract.exports.text import csv_rows, json_object, ndjson_lines
from app.contract.frames import Frame

ExportFormat = Literal["json", "ndjson", "csv", "vtt"]
MEDIA_TYPES: dict[ExportFormat, str] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}

_WRITERS: dict[ExportFormat, Callable[[Iterable[Frame], Content], Iterator[str]]] = {
    "json": json_object,
    "ndjson": ndjson_lines,
    "csv": csv_rows,
    "vtt": vtt_cues,
}


def export(frames: Iterable[Frame], format: ExportFormat, content: Content) -> Iterator[str]:
    """The whole file in `format`, in pieces.  frames: in order."""
    return _WRITERS[format](frames, content)
