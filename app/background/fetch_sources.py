"""Reads videos from addresses: https from checked hosts without redirects, or objects of S3 buckets."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO

import fsspec

from app.contract.uploads import os_errors
from app.settings import Settings
from app.webhooks.post import connect
from app.webhooks.targets import parse_target, resolve

READ_BYTES = 2**20
SILENCE_S = 30  # timeout for a host that sends nothing
_OK = 200


class FetchError(Exception):
    """The fetch failed; the message is for the job's owner.  lasting: retries cannot succeed."""

    def __init__(self, message: str, *, lasting: bool) -> None:
        super().__init__(message)
        self.lasting = lasting


@dataclass(frozen=True)
class Opened:
    """A video that is being read.  total: its size in bytes, None if the host does not report it."""

    stream: IO[bytes] | http.client.HTTPResponse
    total: int | None

    def pieces(self) -> Iterator[bytes]:
        """The content, in pieces.  Blocks."""
        while data := self.stream.read(READ_BYTES):
            yield data


@contextmanager
def opened(url: str, settings: Settings) -> Iterator[Opened]:
    """Open the video at a checked address.  Blocks.

    Raises: FetchError; ForbiddenTargetError if the host has a non-public address; OSError, HTTPException.
    """
    if url.startswith("s3://"):
        with os_errors(), fsspec.open(url, "rb") as file:
            yield Opened(file, getattr(file, "size", None))
        return
    target = parse_target(url, settings.fetch_reach)
    stream = connect(target, resolve(target, settings.fetch_reach))
    with stream:
        stream.settimeout(SILENCE_S)
        if isinstance(stream, ssl.SSLSocket):
            stream.do_handshake()
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.sock = stream
        headers = {"Host": target.authority, "User-Agent": "mien", "Accept": "*/*", "Connection": "close"}
        connection.request("GET", target.path, headers=headers)
        with closing(connection), closing(connection.getresponse()) as response:
            if response.status != _OK:
                raise _refused(response.status)
            yield Opened(response, response.length)


def _refused(status: int) -> FetchError:
    if status in range(300, 400):
        return FetchError("the address redirects elsewhere; give the final one", lasting=True)
    lasting = status < http.client.INTERNAL_SERVER_ERROR and status not in {408, 425, 429}
    return FetchError(f"its host answered {status}", lasting=lasting)


def in_words(error: Exception) -> str:
    """The reason of a failure, without addresses or paths."""
    if isinstance(error, FetchError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "its host did not answer in time"
    if isinstance(error, ssl.SSLError):
        return "its host has no valid certificate"
    if isinstance(error, socket.gaierror):
        return "its host is not known"
    if isinstance(error, FileNotFoundError):
        return "there is no such object"
    return "its host could not be read"
