"""One POST to one checked address: no redirects, no proxies, nothing of the answer but its status."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress

from app.settings import Settings
from app.webhooks.targets import Target, resolve

CONNECT_S = 5
ANSWER_S = 15  # for the whole delivery: a receiver that drips bytes does not hold us up


def post(target: Target, body: bytes, headers: Mapping[str, str], settings: Settings) -> int:
    """Send the body -> the answer's status.  Blocks.

    Raises: ForbiddenTargetError if the address is not allowed; OSError or http.client.HTTPException if there is no
    answer in time.
    """
    address = resolve(target, settings)
    stream = _connect(target, address)
    watchdog = threading.Timer(ANSWER_S, _cut, (stream,))
    watchdog.daemon = True
    watchdog.start()
    try:
        with stream:
            if isinstance(stream, ssl.SSLSocket):
                stream.do_handshake()
            connection = http.client.HTTPConnection(target.host, target.port)
            connection.sock = stream
            sent = {"Host": target.authority, "Content-Type": "application/json", "User-Agent": "mien", **headers}
            connection.request("POST", target.path, body, {**sent, "Connection": "close"})
            status = connection.getresponse().status
            connection.close()
            return status
    finally:
        watchdog.cancel()


def _connect(target: Target, address: str) -> socket.socket:
    """A connection, for https one whose handshake is still to be made: it, too, has to be over in time."""
    raw = socket.create_connection((address, target.port), CONNECT_S)
    try:
        raw.settimeout(ANSWER_S)
        if target.scheme != "https":
            return raw
        # The certificate is checked for the name that was asked for, whatever the address.
        context = ssl.create_default_context()
        return context.wrap_socket(raw, server_hostname=target.host, do_handshake_on_connect=False)
    except BaseException:
        raw.close()
        raise


def _cut(connection: socket.socket) -> None:
    """End the connection under whoever reads from it.  Not TLS's own shutdown, which changes what the reader uses."""
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
