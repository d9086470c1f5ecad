"""Reads videos from addresses: https from checked hosts without redirects, or objects of S3 buckets."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import fsspec

from app.contract.uploads import os_errors
from app.settings import Settings
from app.submission.address import S3
from app.webhooks.post import ask, connect, cut
from app.webhooks.targets import parse_target, resolve

READ_BYTES = 2**20
S3_BLOCK_BYTES = 8 * READ_BYTES  # size of a request to object storage; the answer is held in memory
SILENCE_S = 30  # timeout for a host that sends nothing
_OK = 200


class FetchError(Exception):
    """The fetch failed; the message is for the job's owner.  lasting: retries cannot succeed."""

    def __init__(self, message: str, *, lasting: bool) -> None:
        super().__init__(message)
        self.lasting = lasting


@dataclass(frozen=True)
class Opened:
    """A video that is being read.  total: its size in bytes, None if the host does not report it.

    read: returns the next bytes, none at the end; blocks.  cut: ends a blocked `read` if possible.
    """

    total: int | None
    read: Callable[[], bytes]
    cut: Callable[[], None]


@contextmanager
def opened(url: str, settings: Settings) -> Iterator[Opened]:
    """Open the video at a checked address.  Blocks.

    Raises: FetchError; ForbiddenTargetError if the host has a non-public address; OSError, HTTPException.
    """
    if url.startswith(S3):
        yield from _object(url.removeprefix(S3))
        return
    target = parse_target(url, settings.fetch_reach)
    stream = connect(target, resolve(target, settings.fetch_reach))
    with stream, closing(ask(stream, target, "GET", {"Accept": "*/*"})) as response:
        if response.status != _OK:
            raise _refused(response.status)
        # `read1` returns what has arrived; `read` would block its thread until a slow host has sent READ_BYTES.
        yield Opened(response.length, lambda: response.read1(READ_BYTES), lambda: cut(stream))


def _object(path: str) -> Iterator[Opened]:
    """Open an object, BUCKET/KEY.  `fsspec.open` would split a key at "::"."""
    with _object_errors():
        file = fsspec.filesystem("s3").open(path, "rb", block_size=S3_BLOCK_BYTES)

    def read() -> bytes:
        with _object_errors():
            return bytes(file.read(READ_BYTES))

    with closing(file):
        yield Opened(file.size, read, lambda: None)


@contextmanager
def _object_errors() -> Iterator[None]:
    """Raises: FetchError, OSError."""
    try:
        with os_errors():
            yield
    except FileNotFoundError:
        raise FetchError("there is no such object", lasting=True) from None
    except PermissionError:
        raise FetchError("the service may not read this object", lasting=True) from None


def _refused(status: int) -> FetchError:
    if status in range(300, 400):
        return FetchError("the address redirects elsewhere; give the final one", lasting=True)
    lasting = status < http.client.INTERNAL_SERVER_ERROR and status not in {408, 425, 429}
    return FetchError(f"its host answered {status}", lasting=lasting)


def in_words(error: Exception) -> str:
    """The reason of a failure, without addresses or paths."""
    if isinstance(error, TimeoutError):
        return "its host did not answer in time"
    if isinstance(error, ssl.SSLError):
        return "its host has no valid certificate"
    if isinstance(error, socket.gaierror):
        return "its host is not known"
    return "its host could not be read"
