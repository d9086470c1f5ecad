"""Rounds end when they are cancelled, and at nothing else."""

from __future__ import annotations

import asyncio

import pytest

from app.background.rounds import repeat


@pytest.mark.parametrize("error", [None, OSError("away"), ValueError("broken")])
def test_a_cancellation_that_a_round_swallows_ends_the_rounds(error: Exception | None) -> None:
    """A Redis client may swallow a cancellation as its own timeout, and raise or continue."""
    rounds = 0
    begun = asyncio.Event()

    async def swallow() -> None:
        nonlocal rounds
        rounds += 1
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if error is not None:
                raise error from None

    async def run() -> None:
        task = asyncio.create_task(repeat("work", swallow, every_s=0))
        await begun.wait()
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()

    asyncio.run(run())
    assert rounds == 1


def test_a_round_that_fails_is_followed_by_the_next() -> None:
    """Whatever it raises."""
    errors: list[Exception] = [OSError("away"), ValueError("broken")]

    async def fail() -> None:
        if errors:
            raise errors.pop()
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(repeat("work", fail, every_s=0))
    assert not errors
