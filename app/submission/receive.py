"""Reads a request's body, in any supported form, into the inbox and the options."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from app.contract.media import KINDS, SUPPORTED
from app.contract.sources import Source
from app.http.errors import BadRequest, InvalidOption, UnsupportedMedia, UploadTooLarge
from app.settings import Settings
from app.submission.fields import MAX_VALUE_BYTES, OptionFields
from app.submission.inbox import Inbox
from app.submission.multipart import PartEnd, PartStart, parts
from app.submission.pace import paced

FORM = "multipart/form-data"
JSON = "application/json"
PICTURES = ("video/", "image/")
OTHERS = {name for kind in KINDS for name in kind.content_types if not name.startswith(PICTURES)}
RAW_TYPES = (*PICTURES, *sorted(OTHERS), "application/x-zip", "application/octet-stream")
CONTENT = frozenset({"file", "frames"})

OptionCheck = Callable[[str, str], Awaitable[None]]


async def receive(
    request: Request, inbox: Inbox, options: OptionFields, settings: Settings, check: OptionCheck
) -> None:
    """Read the whole body.  check: called with each option's name and value on arrival.

    Raises: a ProblemError with the fault of the request; OSError.
    """
    for name, value in request.query_params.multi_items():
        options.add("query", name, value)
        await check(name, value)
    content_type = request.headers.get("content-type", "")
    paced_body = paced(aiter(request.stream()), settings.min_upload_rate, settings.upload_window_s)
    body = _limited(request, paced_body, settings.max_upload_bytes)
    media = content_type.partition(";")[0].strip().lower()
    try:
        if media == FORM:
            await _receive_form(content_type, body, inbox, options, check)
        elif media == JSON:
            await _receive_json(body, options, check)
        elif not media or media.startswith(RAW_TYPES):
            await _receive_raw(body, inbox, elsewhere=options.source().is_elsewhere)
        else:
            raise UnsupportedMedia(
                f"The body is {media[:64]!r}; send multipart/form-data with a `file`, or the file itself: {SUPPORTED}."
            )
    except ClientDisconnect:
        raise BadRequest("The body ends early.") from None
    elsewhere = options.source().is_elsewhere
    if inbox.is_empty and not elsewhere:
        raise InvalidOption(f"Send a `file`, `frames`, or one of: {', '.join(Source.model_fields)}.", field="file")
    if elsewhere and not inbox.is_empty:
        raise InvalidOption("Send a file, or its upload or url, not both.", field="file")


async def _receive_raw(body: AsyncIterator[bytes], inbox: Inbox, *, elsewhere: bool) -> None:
    if not elsewhere:
        inbox.begin("file")
    async for data in body:
        if inbox.is_empty and data:  # both a source and a body: `receive` rejects them
            inbox.begin("file")
        await inbox.write(data)
    if not inbox.is_empty:
        await inbox.end()


async def _receive_json(body: AsyncIterator[bytes], options: OptionFields, check: OptionCheck) -> None:
    """Options as one JSON object; null means absent."""
    text = bytearray()
    async for data in body:
        text += data
        if len(text) > MAX_VALUE_BYTES:
            raise InvalidOption(f"More than {MAX_VALUE_BYTES} bytes of options.")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(given, dict):
        raise BadRequest("The body is not a JSON object.")
    for name, value in given.items():
        if value is not None:
            worded = _worded(value)
            options.add("form", name, worded)
            await check(name, worded)


def _worded(value: Any) -> str:
    """A JSON value as text of a form field."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value)


async def _receive_form(
    content_type: str, body: AsyncIterator[bytes], inbox: Inbox, options: OptionFields, check: OptionCheck
) -> None:
    name = ""
    value = bytearray()
    async for event in parts(content_type, body):
        if isinstance(event, PartStart):
            name = event.name
            value.clear()
            if name in CONTENT:
                inbox.begin(name)
                options.add_file(event.file_name)
            else:  # before its value, which may be a whole video under a wrong name
                options.check_name(name)
        elif isinstance(event, PartEnd):
            if name in CONTENT:
                await inbox.end()
            else:
                text = value.decode("utf-8", "replace")
                options.add("form", name, text)
                await check(name, text)
        elif name in CONTENT:
            await inbox.write(event)
        else:
            value += event
            if len(value) > MAX_VALUE_BYTES:
                raise InvalidOption(f"{name[:64]!r} is too long for an option.", field=name[:64])


async def _limited(request: Request, body: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """The body's pieces.  Raises: UploadTooLarge, before reading if Content-Length exceeds the limit."""
    too_large = UploadTooLarge(f"The body is larger than the limit of {max_bytes} bytes.")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    received = 0
    async for piece in body:
        received += len(piece)
        if received > max_bytes:
            raise too_large
        yield piece
