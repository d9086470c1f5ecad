"""Requests to checked addresses, without redirects or proxies; of a POST only the response's status is read."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import closing, suppress

from app.settings import Settings
from app.webhooks.targets import Target, resolve

CONNECT_S = 5
ANSWER_S = 15  # deadline of the whole delivery, also for a receiver that sends single bytes slowly


def post(target: Target, body: bytes, headers: Mapping[str, str], settings: Settings) -> int:
    """Send the body and return the response's status.  Blocks.

    Raises: ForbiddenTargetError if the address is not allowed; OSError or http.client.HTTPException if there is no
    response in time.
    """
    address = resolve(target, settings.callback_reach)
    stream = connect(target, address)
    with (
        stream,
        closing(ask(stream, target, "POST", {"Content-Type": "application/json", **headers}, body)) as response,
    ):
        return response.status


def ask(
    stream: socket.socket, target: Target, method: str, headers: Mapping[str, str], body: bytes | None = None
) -> http.client.HTTPResponse:
    """Send a request over a new connection.  -> the response, whose headers have come.  Blocks.

    Raises: OSError or http.client.HTTPException if they have not within `ANSWER_S`.
    """
    watchdog = threading.Timer(ANSWER_S, cut, (stream,))
    watchdog.daemon = True
    watchdog.start()
    try:
        if isinstance(stream, ssl.SSLSocket):
            stream.do_handshake()
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.sock = stream
        sent = {"Host": target.authority, "User-Agent": "mien", "Connection": "close", **headers}
        connection.request(method, target.path, body, sent)
        return connection.getresponse()
    finally:
        watchdog.cancel()


def connect(target: Target, address: str) -> socket.socket:
    """Connect; for https without the TLS handshake, which must run under the caller's deadline."""
    raw = socket.create_connection((address, target.port), CONNECT_S)
    try:
        raw.settimeout(ANSWER_S)
        if target.scheme != "https":
            return raw
        # The certificate is verified against the host name, not the address.
        context = ssl.create_default_context()
        return context.wrap_socket(raw, server_hostname=target.host, do_handshake_on_connect=False)
    except BaseException:
        raw.close()
        raise


def cut(connection: socket.socket) -> None:
    """Shut down the TCP connection that another thread reads; `SSLSocket.shutdown` would change the reader's state."""
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
