"""Decoding: from a stored input to frames, one at a time, with the container's own timestamps.

`video` reads videos and animated GIFs, `images` reads archives of still images.  Both yield `DecodedFrame`s in order
and hold one frame at a time, so memory does not grow with the input's length.

Inputs come from strangers, and decoders are large programs in C: `isolated` has a child process read each input, under
limits that the kernel holds (`child`), and takes the frames over through shared memory (`ring`).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from worker.core.records import Image

THREADS = 16  # of FFmpeg for one input, at most: each takes memory for frames of its own
THREADS_VARIABLE = "DECODING_THREADS"  # for tests of other numbers of threads
BEAT_S = 1.0  # how often a decoder says that it is still at it


class DecoderError(Exception):
    """The decoder failed for a reason that is not the input's."""


class UndecodableInputError(Exception):
    """The input holds no picture that can be decoded; the message says why, for the input's owner."""


class LimitExceededError(Exception):
    """The input is larger than this service allows; the message names the limit."""


class DecoderLostError(Exception):
    """The decoder is gone before its end, perhaps for a reason of the machine's: another try may do better."""


class DecoderHungError(DecoderLostError, LimitExceededError):
    """It said nothing for so long that it was ended."""


class DecoderKilledError(DecoderLostError, MemoryError):
    """Somebody killed it; for want of memory the system does."""


class InputUnreadableError(DecoderLostError, OSError):
    """The input's file could not be read, whatever is in it."""


class DecodingProcessLostError(DecoderLostError, DecoderError):
    """The process that forks decoders is gone, or does not answer."""


@dataclass(frozen=True)
class DecodeLimits:
    """Hard limits: most frames of an input, most pixels of a frame; seconds and bytes of memory for decoding it."""

    max_frames: int
    max_pixels: int
    max_s: float = math.inf
    max_bytes: int = 4 * 2**30

    def check_pixels(self, width: int, height: int) -> None:
        """Raises: LimitExceededError if a frame of this size is too large."""
        if width * height > self.max_pixels:
            raise LimitExceededError(
                f"frames of {width} x {height} pixels exceed the limit of {self.max_pixels} pixels"
            )

    def check_frames(self, frames: int) -> None:
        """Raises: LimitExceededError if so many frames are too many."""
        if frames > self.max_frames:
            raise LimitExceededError(f"the input has more than {self.max_frames} frames, the limit of this service")


Canvas = Callable[[int], Image]


def new_samples(size: int) -> Image:
    """Where so many samples of a picture are put, unless its reader has a better place."""
    return np.empty(size, np.uint8)


def decoding_threads() -> int:
    """Threads of FFmpeg for one input: while a picture is copied, that of the one before it has nothing to do."""
    return int(os.environ.get(THREADS_VARIABLE, "0")) or min((os.cpu_count() or 1) + 1, THREADS)


class DecodeClock:
    """Seconds spent decoding one input, without those that its frames wait for whoever takes them.

    max_s: most of them.  beat: called about every `BEAT_S` seconds of decoding.
    """

    def __init__(self, max_s: float, beat: Callable[[], None] = lambda: None) -> None:
        self._max_s = max_s
        self._beat = beat
        self._spent_s = 0.0
        self._since = self._beaten = time.monotonic()

    def tick(self) -> None:
        """Called at every frame, and before it is given away.  Raises: LimitExceededError if time is up."""
        now = time.monotonic()
        self._spent_s += now - self._since
        self._since = now
        if self._spent_s > self._max_s:
            raise LimitExceededError(f"decoding took longer than the limit of {self._max_s:g} s")
        if now - self._beaten >= BEAT_S:
            self._beaten = now
            self._beat()

    def resume(self) -> None:
        """The frame was taken: the time since `tick` was not ours."""
        self._since = time.monotonic()


@dataclass(frozen=True)
class Sampling:
    """Which frames of the source are labelled.

    sample_fps: at most so many frames a second, None for all.  start_s (included), end_s (excluded): seconds.
    """

    sample_fps: float | None = None
    start_s: float | None = None
    end_s: float | None = None


class Sampler:
    """Decides frame by frame; timestamps must not decrease."""

    # Timestamps of 1/30 s are not exact in any container: this much too early is still on time.
    SLACK_S = 1e-3

    def __init__(self, sampling: Sampling) -> None:
        self._start = sampling.start_s or 0.0
        self._end = sampling.end_s
        self._period = None if sampling.sample_fps is None else 1 / sampling.sample_fps
        self._due: float | None = None

    def wants(self, timestamp_s: float) -> bool:
        """Whether the frame at this time is to be labelled."""
        if timestamp_s < self._start - self.SLACK_S or self.past_end(timestamp_s):
            return False
        if self._period is None:
            return True
        if self._due is None:
            self._due = timestamp_s
        if timestamp_s < self._due - self.SLACK_S:
            return False
        steps = max(1, int((timestamp_s + self.SLACK_S - self._due) / self._period) + 1)
        self._due += steps * self._period
        return True

    def past_end(self, timestamp_s: float) -> bool:
        """Whether no frame from this time on is wanted."""
        return self._end is not None and timestamp_s >= self._end - self.SLACK_S
