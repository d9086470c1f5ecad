"""A minimum rate of uploads: a slow body would hold a connection, a file and memory for hours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from app.http.errors import UploadTooSlow


async def paced(body: AsyncIterator[bytes], min_rate: int, window_s: float) -> AsyncIterator[bytes]:
    """Yield the pieces.  min_rate: minimum bytes per second in every window of `window_s`; 0: no limit.

    The consumer's time for a piece does not count.  Raises: UploadTooSlow.
    """
    if not min_rate:
        async for piece in body:
            yield piece
        return
    loop = asyncio.get_running_loop()
    deadline, owed = loop.time() + window_s, min_rate * window_s
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                piece = await anext(body)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise UploadTooSlow(f"Less than {min_rate} bytes per second were received over {window_s:g} s.") from None
        owed -= len(piece)
        given = loop.time()
        yield piece
        deadline += loop.time() - given
        if owed <= 0:
            deadline, owed = loop.time() + window_s, min_rate * window_s
