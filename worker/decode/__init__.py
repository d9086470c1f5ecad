"""Decoding: from a stored input to frames, one at a time, with the container's own timestamps.

`video` reads videos and animated GIFs, `images` reads archives of still images.  Both yield `DecodedFrame`s in order
and hold one frame at a time, so memory does not grow with the input's length.

Inputs are untrusted, and decoders are large C programs: `isolated` decodes each input in a child process under kernel
limits (`child`) and receives the frames through shared memory (`ring`).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from worker.core.records import Image

THREADS = 16  # maximum of FFmpeg's threads for one input, since each needs memory for its own frames
THREADS_VARIABLE = "DECODING_THREADS"  # for tests of other numbers of threads
BEAT_S = 1.0  # interval of a decoder's heartbeats


class DecoderError(Exception):
    """The decoder failed, and the input is not the cause."""


class UndecodableInputError(Exception):
    """The input has no decodable picture; the message is the reason, for the input's owner."""


class LimitExceededError(Exception):
    """The input is larger than this service allows; the message names the limit."""


class DecoderLostError(Exception):
    """The decoder ended early, perhaps because of the machine: a retry may succeed."""


class DecoderHungError(DecoderLostError, LimitExceededError):
    """The decoder was ended after a timeout without messages."""


class DecoderKilledError(DecoderLostError, MemoryError):
    """The decoder was killed, usually by the system for lack of memory."""


class InputUnreadableError(DecoderLostError, OSError):
    """The input's file could not be read."""


class DecodingProcessLostError(DecoderLostError, DecoderError):
    """The process that forks decoders died or hangs."""


@dataclass(frozen=True)
class DecodeLimits:
    """Hard limits: frames of an input, pixels of a frame, seconds and bytes of memory for decoding an input."""

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
    """The default `Canvas`: a new array (size,) uint8."""
    return np.empty(size, np.uint8)


def decoding_threads() -> int:
    """Threads of FFmpeg for one input: while a picture is copied, that of the one before it has nothing to do."""
    return int(os.environ.get(THREADS_VARIABLE, "0")) or min((os.cpu_count() or 1) + 1, THREADS)


class DecodeClock:
    """Seconds spent decoding one input, without the time that frames wait for their consumer.

    max_s: limit.  beat: called about every `BEAT_S` seconds of decoding.
    """

    def __init__(self, max_s: float, beat: Callable[[], None] = lambda: None) -> None:
        self._max_s = max_s
        self._beat = beat
        self._spent_s = 0.0
        self._since = self._beaten = time.monotonic()

    def tick(self) -> None:
        """Call it at every frame, and before a frame is yielded.  Raises: LimitExceededError after `max_s`."""
        now = time.monotonic()
        self._spent_s += now - self._since
        self._since = now
        if self._spent_s > self._max_s:
            raise LimitExceededError(f"decoding took longer than the limit of {self._max_s:g} s")
        if now - self._beaten >= BEAT_S:
            self._beaten = now
            self._beat()

    def resume(self) -> None:
        """Call it after the consumer took a frame: the time since `tick` does not count."""
        self._since = time.monotonic()


@dataclass(frozen=True)
class Sampling:
    """The frames of the source to label.

    sample_fps: maximum frames a second, None for all.  start_s (inclusive), end_s (exclusive): seconds.
    """

    sample_fps: float | None = None
    start_s: float | None = None
    end_s: float | None = None


class Sampler:
    """Selects sampled frames; timestamps must not decrease."""

    # Tolerance, since containers store multiples of 1/30 s inexactly.
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
