"""Probes of the upload store in a separate thread.

A hanging store, such as a network file system without its server, blocks its callers.  The probe's own thread protects
those of uploads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class StoreProbe(Generic[Answer]):
    """Runs one probe at a time; concurrent callers share its result."""

    def __init__(self, question: Callable[[], Answer]) -> None:
        self._question = question
        self._asked: asyncio.Future[Answer | None] | None = None

    async def ask(self, seconds: float) -> Answer | None:
        """The result; None if the probe fails or exceeds `seconds`."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.get_running_loop().create_future()
            thread = threading.Thread(target=self._ask, args=(self._asked,), name="store-probe", daemon=True)
            thread.start()
        with suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(self._asked), seconds)
        return None

    def _ask(self, asked: asyncio.Future[Answer | None]) -> None:
        answer: Answer | None = None
        with suppress(Exception):  # object storage clients raise their own types
            answer = self._question()
        with suppress(RuntimeError):  # the loop is closed
            asked.get_loop().call_soon_threadsafe(_answer, asked, answer)


def _answer(asked: asyncio.Future[Answer | None], answer: Answer | None) -> None:
    if not asked.done():
        asked.set_result(answer)
