"""Content negotiation: `?format=`, else `Accept`."""

from __future__ import annotations

from typing import Literal

from app.contract.exports import ExportFormat
from app.http.errors import NotAcceptable

FrameFormat = ExportFormat | Literal["hume"]

_BY_TYPE: dict[str, FrameFormat] = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "text/csv": "csv",
    "text/vtt": "vtt",
    "application/x-subrip": "srt",
    "application/vnd.apache.parquet": "parquet",
    "text/x-eaf+xml": "eaf",
    "application/*": "json",
    "text/*": "csv",
    "*/*": "json",
}


def accepted(header: str | None) -> FrameFormat:
    """The preferred format of `Accept`; JSON without the header.

    Raises: NotAcceptable if it names no available format.
    """
    if not header or not header.strip():
        return "json"
    best: tuple[float, int, FrameFormat] | None = None
    for order, part in enumerate(header.split(",")):
        media, _, parameters = part.partition(";")
        name = media.strip().lower()
        quality = _quality(parameters)
        # At equal quality a named type precedes a wildcard.
        rank = (quality, -order - (1000 if "*" in name else 0))
        if name in _BY_TYPE and quality > 0 and (best is None or rank > best[:2]):
            best = (*rank, _BY_TYPE[name])
    if best is None:
        kinds = "application/json, application/x-ndjson, text/csv, text/vtt"
        raise NotAcceptable(f"Frames are available as {kinds}, and in more formats by `format`.")
    return best[2]


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
