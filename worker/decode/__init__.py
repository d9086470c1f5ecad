"""Decoding: from a stored input to frames, one at a time, with the container's own timestamps.

`video` reads videos and animated GIFs, `images` reads archives of still images.  Both yield `DecodedFrame`s in order
and hold one frame at a time, so memory does not grow with the input's length.
"""

from __future__ import annotations

from dataclasses import dataclass


class UndecodableInputError(Exception):
    """The input holds no picture that can be decoded; the message says why, for the input's owner."""


class LimitExceededError(Exception):
    """The input is larger than this service allows; the message names the limit."""


@dataclass(frozen=True)
class DecodeLimits:
    """Hard limits: most frames of an input, most pixels of a frame."""

    max_frames: int
    max_pixels: int

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
