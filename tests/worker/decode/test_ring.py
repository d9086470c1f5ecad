"""The ring of frames: what is taken out is what was put in, in any sizes, and memory stays within its bounds."""

from __future__ import annotations

import mmap
import os
import random
import socket
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.decode.ring import FRAMES_AHEAD, RingWriter, copy_samples, make_memory

MAX_PIXELS = 8_000_000
SIDES = st.integers(1, 1400)


@pytest.fixture(scope="module")
def memory() -> mmap.mmap:
    descriptor, mapped = make_memory(MAX_PIXELS)
    os.close(descriptor)
    return mapped


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=60), pauses=st.randoms(use_true_random=False))
def test_frames_come_out_as_they_went_in(
    memory: mmap.mmap, sizes: list[tuple[int, int]], pauses: random.Random
) -> None:
    """No frame is overwritten before it was acknowledged, whatever the sizes and however late that is."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        held: list[tuple[int, int, int, int]] = []

        def take(count: int) -> None:
            for _ in range(count):
                offset, height, width, value = held.pop(0)
                taken = copy_samples(memory, offset, 3 * height * width)
                assert taken.shape == (3 * height * width,)
                assert (taken == value).all()
                ours.send(b"\0")

        ring = RingWriter(memory, theirs, waiting=lambda: take(max(1, pauses.randint(0, len(held)))))
        for i, (height, width) in enumerate(sizes):
            image = ring.room(3 * height * width)
            image[:] = i
            held.append((ring.offset(image), height, width, i))
            assert len(held) <= FRAMES_AHEAD
        take(len(held))


def test_a_larger_frame_waits_for_those_before_it(memory: mmap.mmap) -> None:
    """Where the ring grows for a larger frame, none that lies in the smaller one is overwritten."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        held: list[tuple[int, int]] = []

        def take(count: int = 2) -> None:
            for _ in range(min(count, len(held))):
                offset, value = held.pop(0)
                assert (copy_samples(memory, offset, 3_900_000) == value).all()
                ours.send(b"\0")

        def put(ring: RingWriter, value: int) -> None:
            image = ring.room(3_900_000)
            image[:] = value
            held.append((ring.offset(image), value))

        ring = RingWriter(memory, theirs, waiting=take)
        for value in (1, 2, 3, 4, 5):  # the last at the start again; what is after it is still held
            put(ring, value)
        ring.room(5_460_000)[:] = 9
        take(len(held))


def test_a_frame_larger_than_the_memory_is_refused(memory: mmap.mmap) -> None:
    """An oversized frame is an error, not an endless wait."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs), pytest.raises(ValueError, match="larger"):
        RingWriter(memory, theirs).room(len(memory) + 1)


def test_a_parent_that_has_gone_ends_the_wait(memory: mmap.mmap) -> None:
    """A child whose parent died does not wait for space endlessly."""
    ours, theirs = socket.socketpair()
    with closing(theirs):
        ring = RingWriter(memory, theirs)
        ours.close()
        for _ in range(FRAMES_AHEAD):
            ring.room(300)
        with pytest.raises(EOFError):
            ring.room(300)


@pytest.mark.parametrize(("offset", "size"), [(-3, 3), (6 * MAX_PIXELS, 3), (0, -1), (0, 0), (0, 10**9)])
def test_places_outside_the_memory_are_refused(memory: mmap.mmap, offset: int, size: int) -> None:
    """A child that lies about where a frame is makes its parent read nothing else."""
    with pytest.raises(ValueError, match="outside"):
        copy_samples(memory, offset, size)


def test_the_memory_cannot_be_shrunk() -> None:
    """The holder of the descriptor cannot shrink the memory, which would crash the other process."""
    descriptor, mapped = make_memory(MAX_PIXELS)
    with closing(mapped):
        for size in (0, len(mapped) * 2):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)
    os.close(descriptor)
