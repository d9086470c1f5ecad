"""A local port that only the test may reach; it counts connections."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

PATIENCE_S = 5


class Listener:
    """Listens until `close`.  answer: sent after a client's data; without one, connections are closed at once."""

    def __init__(self, answer: bytes = b"") -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._answer = answer
        self.port: int = self._socket.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(PATIENCE_S)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.connections += 1
                with connection, suppress(OSError):  # whoever has gone is counted
                    if self._answer:
                        connection.settimeout(PATIENCE_S)
                        connection.recv(65536)
                        connection.sendall(self._answer)
