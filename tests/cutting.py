"""A proxy that breaks connections, as bad lines do."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

READ_BYTES = 2**16
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what has not been sent is thrown away


class CuttingProxy:
    """Passes TCP connections on.  cuts: after how many bytes of a client its connection is broken, one after the other.

    url: of the proxy; it stands for the address that it passes on to.
    """

    def __init__(self, port: int, cuts: list[int]) -> None:
        self.cuts = cuts
        self._port = port
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                for source, target, counted in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass, args=(source, target, counted), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(READ_BYTES):
                target.sendall(data)
                passed += len(data)
                if counted and self._is_cut(passed):
                    source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            if counted:
                end.close()

    def _is_cut(self, passed: int) -> bool:
        with self._lock:
            if not self.cuts or passed < self.cuts[0]:
                return False
            self.cuts.pop(0)
            return True


@contextmanager
def cutting(port: int, cuts: list[int]) -> Iterator[CuttingProxy]:
    """A proxy before a port of loopback."""
    proxy = CuttingProxy(port, cuts)
    try:
        yield proxy
    finally:
        proxy.close()
