"""The rows of CSV as an Apache Parquet file, typed, with job and model in its metadata.

The only module that uses pyarrow (extra `exports`), which is imported on demand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from app.contract.exports.content import Content
from app.contract.exports.text import table_header, table_rows
from app.contract.frames import Frame

ROW_GROUP = 8192  # rows of a row group, which are buffered
_WHOLE = {"frame_index": "int64", "track_id": "int32", "person_id": "int32"}


class MissingLibraryError(Exception):
    """The library that writes this format is not installed."""


class _Drained:
    """A write-only file whose bytes are consumed between writes."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._written = 0
        self.closed = False

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._written += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        """No operation: nothing is buffered elsewhere."""

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        """The bytes written since the last call."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def load() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet.  Raises: MissingLibraryError."""
    try:
        import pyarrow  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise MissingLibraryError("parquet needs pyarrow: install mien[exports]") from None
    return pyarrow, pyarrow.parquet


def parquet(frames: Iterable[Frame], content: Content) -> Iterator[bytes]:
    """The file in pieces, a row group at a time.  Raises: MissingLibraryError."""
    return parquet_table(table_rows(frames, content), content)


def parquet_table(rows: Iterator[list[object]], content: Content) -> Iterator[bytes]:
    """The same of rows, of one clip or several, under the columns of `content`."""
    pa, pq = load()
    names = table_header(content)
    texts = {"label", "person_name", *dict(content.lead)}
    kinds = {name: pa.string() if name in texts else pa.type_for_alias(_WHOLE.get(name, _real(name))) for name in names}
    about = {"labels": json.dumps(content.labels), **content.about}
    schema = pa.schema(kinds.items(), metadata={f"mien.{name}": value for name, value in about.items()})
    sink = _Drained()
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        while group := list(islice(rows, ROW_GROUP)):
            columns = [
                pa.array(column, kind) for column, kind in zip(zip(*group, strict=True), kinds.values(), strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=ROW_GROUP)
            yield sink.take()
    yield sink.take()


def _real(name: str) -> str:
    return "float64" if name == "timestamp_s" else "float32"
