"""Videos and animated GIFs through OpenCV's FFmpeg backend, restricted in `worker/__init__.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from worker.core.records import DecodedFrame, Image, VideoInfo
from worker.decode import (
    Canvas,
    DecodeClock,
    DecodeLimits,
    Sampler,
    Sampling,
    UndecodableInputError,
    new_image,
)

NO_VIDEO = "the input is not a video that can be decoded; send mp4, mov, webm, mkv, avi, ts or gif"
DEFAULT_FPS = 30.0  # where a container has broken timestamps and no rate
PLAUSIBLE_FPS = 1000.0
# A container's count is often off by a few; an input is called cut off when more than both of these are missing, in
# frames and in time: at a varying rate, what is claimed is often duration times a rate that no frame has.
MISSING_FRAMES, MISSING_SHARE = 5, 0.05


class VideoSource:
    """One video.  Iterating `frames` decodes it once; `info` is known from the start.

    canvas: makes the arrays that pictures are put into.

    After iterating: `decoded` is the number of source frames up to where reading stopped, `warnings` what was odd.

    Raises: UndecodableInputError if it cannot be opened or has no frame, LimitExceededError once a limit is passed.
    """

    def __init__(
        self,
        path: Path,
        limits: DecodeLimits,
        sampling: Sampling | None = None,
        clock: DecodeClock | None = None,
        canvas: Canvas = new_image,
    ) -> None:
        self._limits = limits
        self._sampling = sampling or Sampling()
        self._clock = clock or DecodeClock(limits.max_s)
        self._canvas = canvas
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise UndecodableInputError(NO_VIDEO)
        self.info = self._claims()
        self.decoded = 0
        self.warnings: list[str] = []
        self._bgr: cv2.typing.MatLike | None = None  # used again for every frame
        self._first_s = 0.0  # the first frame's time on the container's own clock
        limits.check_pixels(self.info.width, self.info.height)

    def frames(self) -> Iterator[DecodedFrame]:
        """Sampled frames in order; skipped ones are decoded but not converted."""
        with closing(self):
            sampler = Sampler(self._sampling)
            previous_s = -math.inf
            while self._capture.grab():
                self._clock.tick()
                timestamp_s = self._timestamp(previous_s)
                previous_s = timestamp_s
                if not self.decoded and self.info.fps:
                    self._first_s = self._capture.get(cv2.CAP_PROP_PTS) / self.info.fps
                if sampler.past_end(timestamp_s):
                    return
                index = self.decoded
                self._limits.check_frames(index + 1)
                if sampler.wants(timestamp_s):
                    frame = DecodedFrame(index, timestamp_s, self._picture())
                    self._clock.tick()
                    yield frame
                    self._clock.resume()
                self.decoded += 1
            self._check_complete(previous_s)

    def close(self) -> None:
        """Release the decoder; safe to call twice."""
        self._capture.release()

    def _claims(self) -> VideoInfo:
        width, height = (
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        fps: float | None = self._capture.get(cv2.CAP_PROP_FPS)
        if fps is None or not 0 < fps <= PLAUSIBLE_FPS:  # NaN too
            fps = None
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        frame_count = int(count) if 0 < count < 2**53 else None
        duration_s = frame_count / fps if frame_count and fps else None
        return VideoInfo(width, height, fps, frame_count, duration_s)

    def _timestamp(self, previous_s: float) -> float:
        """The grabbed frame's time; where the container's does not grow, one frame after the one before."""
        timestamp_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if not math.isfinite(timestamp_s) or timestamp_s < 0:
            timestamp_s = 0.0
        if timestamp_s > previous_s:
            return timestamp_s
        warning = "the container's timestamps do not increase; missing ones were filled in from the frame rate"
        if warning not in self.warnings:
            self.warnings.append(warning)
        return previous_s + 1 / (self.info.fps or DEFAULT_FPS)

    def _picture(self) -> Image | None:
        ok, bgr = self._capture.retrieve(self._bgr)
        if not ok or bgr is None:
            return None
        self._bgr = bgr
        self._limits.check_pixels(bgr.shape[1], bgr.shape[0])
        height, width = bgr.shape[:2]
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=self._canvas(height, width)), np.uint8)

    def _check_complete(self, last_s: float) -> None:
        if not self.decoded:
            raise UndecodableInputError("the input has no video frame that can be decoded")
        claimed = self.info.frame_count or 0
        missing = claimed - self.decoded
        if missing > max(MISSING_FRAMES, MISSING_SHARE * claimed) and self._time_is_missing(last_s):
            self.warnings.append(
                f"the video ends early: {self.decoded} frames could be decoded, its container claims {claimed}"
            )

    def _time_is_missing(self, last_s: float) -> bool:
        """Whether the last frame comes long before the claimed end."""
        duration_s, fps = self.info.duration_s, self.info.fps
        if duration_s is None or fps is None:
            return True
        # Matroska's duration counts from time 0, that of others from the first frame.
        on_its_clock_s = last_s + self._first_s
        end_s = on_its_clock_s if last_s < on_its_clock_s <= duration_s else last_s
        return duration_s - end_s > max((MISSING_FRAMES + 1) / fps, MISSING_SHARE * duration_s)
