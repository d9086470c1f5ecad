"""Waits for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

PATIENCE_S = 120  # for what takes a moment on an idle machine
LOOK_S = 0.02


def until(condition: Callable[[], Found], seconds: float = PATIENCE_S) -> Found:
    """What the condition says, once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(LOOK_S)
    return found
