"""Shared memory through which frames come from a decoding child: a ring of bytes, taken up and given back in order.

The child puts pictures in and says where; the parent copies each out and acknowledges it with one byte on the socket
between the two.  So a frame costs one copy, and memory is bounded however far the child is ahead.
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

# No more than needed is used of the memory: what was used a moment ago is still in the processor's cache.
LEAST_BYTES = 4 * 2**20
LEAST_FRAMES = 4
# Bounds what lies unread on the socket, too: were that full in both directions, both sides would wait for ever.
FRAMES_AHEAD = 32


def make_memory(max_pixels: int) -> tuple[int, mmap.mmap]:
    """Shared memory that has room for two frames at least -> its descriptor, mapped.  Only pages in use take memory.

    It is sealed: whoever gets the descriptor cannot shrink it under its other user.
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
    """The child's end.  waiting, waited: called around each wait for room."""

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
        self._head = 0  # where the next picture goes
        self._used = 0
        self._capacity = min(len(self._bytes), LEAST_BYTES)
        self._sizes: deque[int] = deque()  # of what was not acknowledged yet

    def room(self, size: int) -> Image:
        """Room for the samples of a picture, (size,) uint8; it is sent by telling the parent `offset`.

        Raises: ValueError if they are more than fit into the ring; EOFError if the parent has gone.
        """
        if size > len(self._bytes):
            raise ValueError("a frame is larger than the memory for frames")
        if (wanted := min(len(self._bytes), LEAST_FRAMES * size)) > self._capacity:
            while self._sizes:  # what lies there was placed in a smaller ring
                self._wait()
            self._capacity = wanted
        while True:
            if not self._sizes:
                self._head = 0
            wraps = self._head + size > self._capacity
            taken = size + (self._capacity - self._head if wraps else 0)  # with what is passed over at the end
            if len(self._sizes) < FRAMES_AHEAD and self._used + taken <= self._capacity:
                break
            self._wait()
        start = 0 if wraps else self._head
        self._sizes.append(taken)
        self._used += taken
        self._head = start + size
        return self._bytes[start : start + size]

    def offset(self, samples: Image) -> int:
        """Where samples of this ring lie."""
        return int(samples.ctypes.data - self._bytes.ctypes.data)

    def _wait(self) -> None:
        self._waiting()
        taken = self._acknowledged.recv(FRAMES_AHEAD)
        if not taken:
            raise EOFError("nobody takes the frames any more")
        for _ in taken:
            self._used -= self._sizes.popleft()
        self._waited()


def copy_samples(memory: mmap.mmap, offset: int, size: int) -> Image:
    """The parent's end: a copy of the samples that the child has put there.

    Raises: ValueError if they are not inside the memory.
    """
    if offset < 0 or size <= 0 or offset + size > len(memory):
        raise ValueError("a frame outside the memory for frames")
    return np.frombuffer(memory, np.uint8, size, offset).copy()
