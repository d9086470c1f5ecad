"""What the upload store says of itself, asked in a thread of its own.

A store that hangs (a network file system whose server is away) holds whoever asks it for as long as it likes: that
must be this one thread, and none of those that uploads use.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class StoreProbe(Generic[Answer]):
    """Asks one thing for all callers together: whoever comes while it is not answered waits for the same answer."""

    def __init__(self, question: Callable[[], Answer]) -> None:
        self._question = question
        self._asked: asyncio.Future[Answer | None] | None = None

    async def ask(self, seconds: float) -> Answer | None:
        """None where that raises, and where it has not been answered after so long."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.get_running_loop().create_future()
            thread = threading.Thread(target=self._ask, args=(self._asked,), name="store-probe", daemon=True)
            thread.start()
        with suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(self._asked), seconds)
        return None

    def _ask(self, asked: asyncio.Future[Answer | None]) -> None:
        answer: Answer | None = None
        with suppress(Exception):  # object storage raises its own kinds
            answer = self._question()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            asked.get_loop().call_soon_threadsafe(_answer, asked, answer)


def _answer(asked: asyncio.Future[Answer | None], answer: Answer | None) -> None:
    if not asked.done():
        asked.set_result(answer)
