"""`multipart/form-data` as a stream of parts, without spooling and without a limit on their number."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.http.errors import BadRequest


@dataclass(frozen=True, slots=True)
class PartStart:
    """The start of a part.  file_name: the client's, "" for none."""

    name: str
    file_name: str = ""


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The end of the current part."""


PartEvent = PartStart | bytes | PartEnd


async def parts(content_type: str, body: AsyncIterator[bytes]) -> AsyncIterator[PartEvent]:
    """The body's parts, in order: each is a PartStart, any number of bytes, and a PartEnd.

    Raises: BadRequest if the body is malformed or ends early.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise BadRequest("The Content-Type has no boundary; let your client set this header.")
    events = _Events()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": events.begin,
                "on_header_field": events.header_name,
                "on_header_value": events.header_value,
                "on_header_end": events.header_end,
                "on_headers_finished": events.headers_finished,
                "on_part_data": events.data,
                "on_part_end": events.end,
                "on_end": events.finish,
            },
        )
        async for chunk in body:
            parser.write(chunk)
            for event in events.take():
                yield event
        parser.finalize()
    except FormParserError as error:
        raise BadRequest(f"The multipart body cannot be read: {error}") from None
    if not events.finished:
        raise BadRequest("The multipart body ends early.")


class _Events:
    """Converts the parser's callbacks to events."""

    def __init__(self) -> None:
        self._events: list[PartEvent] = []
        self._name = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self.finished = False

    def take(self) -> list[PartEvent]:
        taken, self._events = self._events, []
        return taken

    def begin(self) -> None:
        self._headers = {}

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def headers_finished(self) -> None:
        disposition, values = parse_options_header(self._headers.get(b"content-disposition", b"").decode("latin-1"))
        name = values.get(b"name")
        if disposition != b"form-data" or name is None:
            raise BadRequest("A part of the multipart body has no name.")
        file_name = values.get(b"filename", b"").decode("utf-8", "replace")
        self._events.append(PartStart(name.decode("utf-8", "replace"), file_name))

    def data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def end(self) -> None:
        self._events.append(PartEnd())

    def finish(self) -> None:
        self.finished = True
