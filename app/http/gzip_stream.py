"""Streaming gzip compression for clients that accept it.

Most of a frame record are the names of labels and members, so records shrink to a tenth, in a tenth of the time of
their JSON serialisation.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterator

LEVEL = 1  # higher levels gain a few per cent and cost more of the front end's time
# Consecutive records of about 700 bytes are similar, so a small window suffices, which saves memory with many streams.
WINDOW_BITS, MEMORY_LEVEL = 13, 6
GZIP = 16  # zlib's flag for the gzip format
AT_ONCE = 4096  # characters compressed without a thread

_REFUSED = re.compile(r";\s*q=0(\.0*)?\s*$")


def takes_gzip(accept_encoding: str | None) -> bool:
    """Whether the `Accept-Encoding` header accepts gzip."""
    for part in (accept_encoding or "").split(","):
        if part.split(";")[0].strip().lower() == "gzip":
            return _REFUSED.search(part) is None
    return False


async def gzipped(pieces: AsyncIterator[str]) -> AsyncIterator[bytes]:
    """Compress the pieces; each is flushed, so that clients can decode it on arrival."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP + WINDOW_BITS, MEMORY_LEVEL)

    def pack(piece: str) -> bytes:
        return packer.compress(piece.encode()) + packer.flush(zlib.Z_SYNC_FLUSH)

    async for piece in pieces:
        yield pack(piece) if len(piece) <= AT_ONCE else await asyncio.to_thread(pack, piece)
    yield packer.flush()
