"""Whether the upload store can be written, asked in a thread of its own.

A store that hangs (a network file system whose server is away) holds whoever asks it for as long as it likes: that
must be this one thread, and none of those that uploads use.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from app.contract.uploads import UploadStore


class StoreProbe:
    """Asks the store for all callers together: whoever comes while it has not answered waits for the same answer."""

    def __init__(self, uploads: UploadStore) -> None:
        self._uploads = uploads
        self._asked: asyncio.Future[bool] | None = None

    async def is_writable(self, seconds: float) -> bool:
        """False also where the store has not answered after so long."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.get_running_loop().create_future()
            thread = threading.Thread(target=self._ask, args=(self._asked,), name="store-probe", daemon=True)
            thread.start()
        with suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(self._asked), seconds)
        return False

    def _ask(self, asked: asyncio.Future[bool]) -> None:
        writable = True
        try:
            self._uploads.check_writable()
        except Exception:  # object storage raises its own kinds
            writable = False
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            asked.get_loop().call_soon_threadsafe(_answer, asked, writable)


def _answer(asked: asyncio.Future[bool], writable: bool) -> None:
    if not asked.done():
        asked.set_result(writable)
