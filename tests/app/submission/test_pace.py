"""Bodies that drip, and lengths that lie: the connection is not held, and nothing is left of the upload."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

HEAD = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2"
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n' + HEAD
PATIENCE_S = 10
ENDS_WITHIN_S = 6  # a window of one second, on a busy machine


@pytest.fixture
def api(make_api: Any) -> httpx.Client:
    client: httpx.Client = make_api(min_upload_rate=1000, upload_window_s=1, max_upload_bytes=2**22)
    return client


def connect(api: httpx.Client, *headers: str) -> socket.socket:
    """A connection that has sent the head of a submission."""
    connection = socket.create_connection((api.base_url.host, api.base_url.port or 80), timeout=PATIENCE_S)
    connection.sendall("\r\n".join(["POST /v1/jobs HTTP/1.1", "Host: x", *headers, "", ""]).encode())
    return connection


def answer_of(connection: socket.socket) -> bytes:
    """Everything up to the end of the connection, which the server closes."""
    received = b""
    with suppress(ConnectionResetError):  # how the kernel closes where the server has not read all that was sent
        while piece := connection.recv(65536):
            received += piece
    return received


def drip(connection: socket.socket, piece: bytes, every_s: float) -> bytes:
    """Send pieces until there is an answer -> all of it, once the server has closed the connection."""
    connection.settimeout(every_s)
    deadline = time.monotonic() + PATIENCE_S
    received = b""
    while time.monotonic() < deadline:
        try:
            got = connection.recv(65536)
        except TimeoutError:
            connection.sendall(piece)
            continue
        except ConnectionResetError:
            return received
        if not got:
            return received
        received += got
    raise AssertionError("the server waits for ever")


def nothing_is_left(uploads: Path, redis_url: str) -> bool:
    """No file, no job and no sign of an upload; what a thread still removes gets a moment."""
    deadline = time.monotonic() + PATIENCE_S
    with redis.Redis.from_url(redis_url) as connection:
        while left := [*uploads.iterdir(), *connection.keys("mien:*")]:
            if time.monotonic() > deadline:
                print(left)
                return False
            time.sleep(0.05)
    return True


@pytest.mark.parametrize("form", [True, False])
@pytest.mark.parametrize("length", ["Content-Length: 500000", "Transfer-Encoding: chunked"])
def test_a_dripping_body_is_ended(api: httpx.Client, uploads: Path, redis_url: str, length: str, form: bool) -> None:
    """A body slower than the least rate is answered 408 within the window, and the connection is closed."""
    media = "multipart/form-data; boundary=b" if form else "video/mp4"
    began = time.monotonic()
    with connect(api, f"Content-Type: {media}", length) as connection:
        first = FORM if form else HEAD
        chunked = length.startswith("Transfer")
        connection.sendall(b"%x\r\n%s\r\n" % (len(first), first) if chunked else first)
        answer = drip(connection, b"1\r\nx\r\n" if chunked else b"x", 0.1)
    assert time.monotonic() - began < ENDS_WITHIN_S
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"application/problem+json" in answer
    assert b'"code":"upload_too_slow"' in answer.replace(b" ", b"")
    assert nothing_is_left(uploads, redis_url)


def test_a_body_that_stops_is_ended(api: httpx.Client, uploads: Path, redis_url: str) -> None:
    """So is one of which nothing more comes at all."""
    with connect(api, "Content-Type: video/mp4", "Content-Length: 500000") as connection:
        connection.sendall(HEAD)
        assert answer_of(connection).startswith(b"HTTP/1.1 408")
    assert nothing_is_left(uploads, redis_url)


def test_a_refused_body_is_not_waited_for_for_ever(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch, uploads: Path, redis_url: str
) -> None:
    """After an early refusal a dripping body keeps neither the answer nor the connection."""
    monkeypatch.setattr("app.middleware.drain.DRAIN_S", 1)
    with connect(api, "Content-Type: text/plain", "Content-Length: 500000") as connection:
        answer = drip(connection, b"x", 0.1)
    assert answer.startswith(b"HTTP/1.1 415")
    assert nothing_is_left(uploads, redis_url)


def test_a_slow_body_above_the_rate_is_taken(api: httpx.Client) -> None:
    """An upload over several windows that keeps the rate is a job like any other."""

    def pieces() -> Any:
        yield HEAD
        for _ in range(12):
            time.sleep(0.2)
            yield bytes(1000)

    answer = api.post("/v1/jobs", content=pieces(), headers={"Content-Type": "video/mp4"})
    assert answer.status_code == 202
    assert answer.json()["input"]["bytes"] == len(HEAD) + 12_000


@pytest.mark.parametrize("form", [True, False])
def test_a_length_that_is_too_long(api: httpx.Client, uploads: Path, redis_url: str, form: bool) -> None:
    """A client that goes away before its declared length leaves no job and no file."""
    media = "multipart/form-data; boundary=b" if form else "video/mp4"
    with connect(api, f"Content-Type: {media}", "Content-Length: 3000000") as connection:
        connection.sendall((FORM if form else HEAD) + bytes(2_000_000))
        while not list(uploads.iterdir()):  # some of it is in the store
            time.sleep(0.01)
    assert nothing_is_left(uploads, redis_url)


def test_a_length_that_is_too_short(api: httpx.Client, uploads: Path, redis_url: str) -> None:
    """A form whose body ends early is 400; bytes after a body are no request and create no job."""
    body = FORM + bytes(2000) + b"\r\n--b--\r\n"
    with connect(api, "Content-Type: multipart/form-data; boundary=b", "Content-Length: 500") as connection:
        connection.sendall(body)
        answer = answer_of(connection)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"202" not in answer.split(b"\r\n")[0]
    assert answer.count(b"HTTP/1.1 2") == 0
    assert nothing_is_left(uploads, redis_url)


@pytest.mark.parametrize(
    "lengths",
    [
        ["Content-Length: -5"],
        ["Content-Length: 0x10"],
        ["Content-Length: 10", "Content-Length: 20"],
        ["Content-Length: 99999999999999999999999999"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
    ],
)
def test_lengths_that_cannot_be(api: httpx.Client, uploads: Path, redis_url: str, lengths: list[str]) -> None:
    """Negative, doubled, senseless and contradictory lengths are refused, and no request is smuggled behind them."""
    with connect(api, "Content-Type: video/mp4", *lengths) as connection:
        connection.sendall(HEAD + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.settimeout(ENDS_WITHIN_S)
        answer = answer_of(connection)
    assert answer.startswith(b"HTTP/1.1 4")
    assert b"200 OK" not in answer
    assert nothing_is_left(uploads, redis_url)
