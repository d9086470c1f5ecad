"""A cache of summaries and timelines: each version is computed once, and those of ended jobs are kept until evicted.

A long video takes seconds of one core, so a separate thread pool limits the concurrency and protects uploads' threads.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

MAX_BYTES = 32 * 2**20  # size of the cache
THREADS = 2


class DigestCache:
    """Computes digests, with least-recently-used eviction."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._making: dict[str, asyncio.Future[bytes]] = {}
        self._threads = ThreadPoolExecutor(THREADS, "mien-digest")

    async def get(self, tag: str, make: Callable[[], bytes], *, keep: bool) -> bytes:
        """The digest of this version.  make: computes it, in a thread.  keep: whether to cache it.

        Raises: what `make` raises.
        """
        if tag in self._kept:
            self._kept.move_to_end(tag)
            return self._kept[tag]
        making = self._making.get(tag)
        if making is None:
            making = asyncio.get_running_loop().run_in_executor(self._threads, make)
            self._making[tag] = making
            making.add_done_callback(lambda made: self._made(tag, made, keep))
        return await asyncio.shield(making)  # shielded: other clients wait for the same digest

    def close(self) -> None:
        """Start no further computation."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _made(self, tag: str, made: asyncio.Future[bytes], keep: bool) -> None:
        del self._making[tag]
        if made.cancelled() or made.exception() is not None or not keep:
            return
        self._kept[tag] = made.result()
        self._bytes += len(self._kept[tag])
        while self._bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest)
