"""A ring buffer in shared memory that transfers frames from a decoding child to its parent.

The child writes pictures and sends their offsets; the parent copies each and acknowledges it with one byte on their
socket.  A frame costs one copy, and memory is bounded.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
from collections import deque
from collections.abc import Callable

import numpy as np

from worker.core.records import Image

# The ring uses no more memory than needed, so that it stays in the processor's cache.
LEAST_BYTES = 4 * 2**20
LEAST_FRAMES = 4
# Also bounds unread messages: with a socket full in both directions, both sides would deadlock.
FRAMES_AHEAD = 32


def make_memory(max_pixels: int) -> tuple[int, mmap.mmap]:
    """Shared memory for at least two frames.  Returns its descriptor and mapping.  Unused pages take no memory.

    It is sealed, so that neither process can resize it.
    """
    size = max(LEAST_BYTES, 2 * 3 * max_pixels)
    descriptor = os.memfd_create("mien-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return descriptor, mmap.mmap(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise


class RingWriter:
    """The child's end.  waiting, waited: called before and after each wait for free space."""

    def __init__(
        self,
        memory: mmap.mmap,
        acknowledged: socket.socket,
        waiting: Callable[[], None] = lambda: None,
        waited: Callable[[], None] = lambda: None,
    ) -> None:
        self._bytes = np.frombuffer(memory, np.uint8)
        self._acknowledged = acknowledged
        self._waiting = waiting
        self._waited = waited
        self._head = 0  # offset of the next picture
        self._used = 0
        self._capacity = min(len(self._bytes), LEAST_BYTES)
        self._sizes: deque[int] = deque()  # of unacknowledged pictures

    def room(self, size: int) -> Image:
        """Allocate space for a picture's samples, (size,) uint8; send it by its `offset`.

        Raises: ValueError if it exceeds the memory; EOFError if the parent closed the socket.
        """
        if size > len(self._bytes):
            raise ValueError("a frame is larger than the memory for frames")
        if (wanted := min(len(self._bytes), LEAST_FRAMES * size)) > self._capacity:
            while self._sizes:  # pictures in the smaller ring must be taken first
                self._wait()
            self._capacity = wanted
        while True:
            if not self._sizes:
                self._head = 0
            wraps = self._head + size > self._capacity
            taken = size + (self._capacity - self._head if wraps else 0)  # with the skipped bytes at the end
            if len(self._sizes) < FRAMES_AHEAD and self._used + taken <= self._capacity:
                break
            self._wait()
        start = 0 if wraps else self._head
        self._sizes.append(taken)
        self._used += taken
        self._head = start + size
        return self._bytes[start : start + size]

    def offset(self, samples: Image) -> int:
        """The offset of samples in this ring, bytes."""
        return int(samples.ctypes.data - self._bytes.ctypes.data)

    def _wait(self) -> None:
        self._waiting()
        taken = self._acknowledged.recv(FRAMES_AHEAD)
        if not taken:
            raise EOFError("the reader of the frames has closed")
        for _ in taken:
            self._used -= self._sizes.popleft()
        self._waited()


def copy_samples(memory: mmap.mmap, offset: int, size: int) -> Image:
    """The parent's end: copy a picture's samples, (size,) uint8.

    Raises: ValueError if they lie outside the memory.
    """
    if offset < 0 or size <= 0 or offset + size > len(memory):
        raise ValueError("a frame outside the memory for frames")
    return np.frombuffer(memory, np.uint8, size, offset).copy()
