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
    raw = socket.create_connection((address, target.port), CONNECT_S)
    watchdog = threading.Timer(ANSWER_S, _cut, (raw,))
    watchdog.daemon = True
    watchdog.start()
    try:
        raw.settimeout(ANSWER_S)
        stream = raw
        if target.scheme == "https":
            # The certificate is checked for the name that was asked for, whatever the address.
            stream = ssl.create_default_context().wrap_socket(raw, server_hostname=target.host)
        with stream:
            connection = http.client.HTTPConnection(target.host, target.port)
            connection.sock = stream
            sent = {"Host": target.authority, "Content-Type": "application/json", "User-Agent": "mien", **headers}
            connection.request("POST", target.path, body, {**sent, "Connection": "close"})
            status = connection.getresponse().status
            connection.close()
            return status
    finally:
        watchdog.cancel()
        raw.close()


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
