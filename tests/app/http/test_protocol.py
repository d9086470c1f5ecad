"""Heads of requests: they come soon, or the connection is closed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import uvicorn

from app.http import protocol
from app.http.protocol import BoundedProtocol

HEAD_S = 1.0
PATIENCE_S = 60


async def application(scope: dict[str, object], receive: object, send: object) -> None:
    """Answers every request with 204."""
    assert callable(send)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server that gives heads a second."""
    monkeypatch.setattr(protocol, "HEAD_S", HEAD_S)
    config = uvicorn.Config(
        application,
        port=0,
        http=BoundedProtocol,
        log_config=None,
        lifespan="off",
        timeout_keep_alive=PATIENCE_S,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def is_closed(connection: socket.socket, piece: bytes) -> bool:
    """Send pieces until the server has closed the connection."""
    connection.settimeout(HEAD_S / 10)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            connection.sendall(piece)
            if not connection.recv(65536):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


@pytest.mark.parametrize("piece", [b"", b"x"], ids=["nothing", "drops"])
@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "], ids=["before", "within"])
def test_heads_that_do_not_come(port: int, head: bytes, piece: bytes) -> None:
    """A connection on which no whole head comes is closed, whatever drips through it."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head)
        assert is_closed(connection, piece)


def test_heads_that_come(port: int) -> None:
    """A client that sends headers in time can reuse its connection, also after a pause."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(PATIENCE_S)
        for pause_s in (0, HEAD_S / 4, 0):
            time.sleep(pause_s)
            with suppress(BrokenPipeError):
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 204")
