"""The process's own memory: what it frees is kept for the next batch, until it is given back."""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
NEVER = -1
LARGEST_KEPT = 1 << 30  # bytes; what is larger goes back to the system as soon as it is freed


def keep() -> None:
    """From now on keep what is freed; to be called before the process has a second thread.

    glibc would return most of a batch's activations to the system after each layer and take them anew for the next
    one, at the price of a page fault for every 4 KiB.  One arena, since a further thread's would hold 64 MiB at most.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_ARENA_MAX, 1)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)


@contextmanager
def only_growing() -> Iterator[None]:
    """What is made inside stays for good, such as what imports make: Python need not look, now or later, what has gone.

    Half a million objects of torch are a tenth of its import's time, and of every later search for cycles.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def give_back() -> None:
    """Return to the system what is free."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
