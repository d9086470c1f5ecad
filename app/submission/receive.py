"""A request's body, whatever its form, into the inbox and the options."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import Request
from starlette.requests import ClientDisconnect

from app.contract.media import KINDS, SUPPORTED
from app.http.errors import BadRequest, InvalidOption, UnsupportedMedia, UploadTooLarge
from app.settings import Settings
from app.submission.fields import MAX_VALUE_BYTES, OptionFields
from app.submission.inbox import Inbox
from app.submission.multipart import PartEnd, PartStart, parts
from app.submission.pace import paced

FORM = "multipart/form-data"
PICTURES = ("video/", "image/")
OTHERS = {name for kind in KINDS for name in kind.content_types if not name.startswith(PICTURES)}
RAW_TYPES = (*PICTURES, *sorted(OTHERS), "application/x-zip", "application/octet-stream")
CONTENT = frozenset({"file", "frames"})

OptionCheck = Callable[[str, str], Awaitable[None]]


async def receive(
    request: Request, inbox: Inbox, options: OptionFields, settings: Settings, check: OptionCheck
) -> None:
    """Read the whole body.  check: called with each option's name and value as it comes.

    Raises: a ProblemError that says what is wrong with the request; OSError.
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
        elif not media or media.startswith(RAW_TYPES):
            await _receive_raw(body, inbox)
        else:
            raise UnsupportedMedia(
                f"The body is {media[:64]!r}; send multipart/form-data with a `file`, or the file itself: {SUPPORTED}."
            )
    except ClientDisconnect:
        raise BadRequest("The body ends early.") from None
    if inbox.is_empty:
        raise InvalidOption("The form has no `file` and no `frames`.", field="file")


async def _receive_raw(body: AsyncIterator[bytes], inbox: Inbox) -> None:
    inbox.begin("file")
    async for data in body:
        await inbox.write(data)
    await inbox.end()


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
            else:  # before its value: a video under another name is long
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
    """The body's pieces.  Raises: UploadTooLarge, before reading where Content-Length already says so."""
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
