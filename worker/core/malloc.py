"""Memory of the process: malloc keeps freed memory for the next batch until `give_back`."""

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
LARGEST_KEPT = 1 << 30  # bytes; larger blocks return to the system when freed


def keep() -> None:
    """Keep freed memory in the process.  Call it before a second thread starts.

    By default glibc returns most of a batch's activations to the system after each layer, so the next layer takes a
    page fault for every 4 KiB.  One arena, since the arena of a further thread holds 64 MiB at most.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_ARENA_MAX, 1)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)


@contextmanager
def only_growing() -> Iterator[None]:
    """Turn garbage collection off inside the block and freeze the objects made there: for imports.

    Traversing torch's half a million objects takes a tenth of its import's time and would slow every later collection.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def give_back() -> None:
    """Return free memory to the system."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
