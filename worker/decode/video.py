"""Videos and animated GIFs through PyAV: every picture, with its timestamp, upright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

from av.video.frame import VideoFrame

from worker.core.records import DecodedFrame, VideoInfo
from worker.decode import (
    Canvas,
    DecodeClock,
    DecodeLimits,
    Sampler,
    Sampling,
    UndecodableInputError,
    new_samples,
)
from worker.decode.claims import claims, indexed_before
from worker.decode.container import OpenVideo
from worker.decode.fields import Deinterlacer
from worker.decode.pictures import PictureMaker, is_dolby_alone, shown_size, turn
from worker.decode.skipping import Skipping
from worker.decode.times import DEFAULT_FPS, UNORDERED, Gaps, Increasing, time_s, zero_s
from worker.decode.track import Track

DOLBY_ALONE = "the video is Dolby Vision that other formats do not show (profile 5): its pictures are taken as grey"
NO_FRAME = "the input has no video frame that can be decoded"
# A container's count is often off by a few: an input is truncated if more than both of these are missing.
MISSING_FRAMES, MISSING_SHARE = 5, 0.05


class VideoSource:
    """One video.  Iterating `frames` decodes it once; `info` is available at once.

    canvas: allocates the arrays for samples of pictures.

    After the iteration, `decoded` is the number of source frames read, and `warnings` lists anomalies.

    Raises: UndecodableInputError if it cannot be opened or has no frame; LimitExceededError when a limit is exceeded.
    """

    def __init__(
        self,
        path: Path,
        limits: DecodeLimits,
        sampling: Sampling | None = None,
        clock: DecodeClock | None = None,
        canvas: Canvas = new_samples,
    ) -> None:
        self._limits = limits
        self._sampling = sampling or Sampling()
        self._clock = clock or DecodeClock(limits.max_s)
        self._pictures = PictureMaker(limits, canvas)
        self.decoded = 0
        self.warnings: list[str] = []
        self._gaps = Gaps()
        self._ended_early = False
        self._video = OpenVideo(path)
        try:
            codec = self._video.stream.codec_context
            limits.check_pixels(codec.width, codec.height)
            self._claims = claims(self._video, path, self._clock.tick)
            self._check_claims()
            self._times: Increasing[VideoFrame] = Increasing(1 / (self._claims.fps or DEFAULT_FPS))
            self._zero_s = zero_s(self._video.container, plays_in_browsers=self._video.plays_in_browsers)
            self._skipping = Skipping(self._video, self._sampling, self._zero_s)
            self._track = Track(self._video, limits, self._skipping, self._clock.tick)
            decoded = self._track.frames()
            first = next(decoded, None)
            if first is None:
                raise UndecodableInputError(NO_FRAME)
            if is_dolby_alone(first, codec.codec_tag):
                self._pictures.grey = True
                self.warnings.append(DOLBY_ALONE)
            if first.interlaced_frame:
                self._skipping.off()
            self._frames = Deinterlacer().run(self._times.run(self._timed(chain([first], decoded))))
            width, height = shown_size(first.width, first.height, self._video.stream.sample_aspect_ratio, turn(first))
            limits.check_pixels(width, height)
        except BaseException:
            self.close()
            raise
        self.info = VideoInfo(width, height, self._claims.fps, self._claims.frames, self._claims.ends_s)

    def frames(self) -> Iterator[DecodedFrame]:
        """Sampled frames in order; other frames are decoded only as references."""
        with closing(self):
            sampler = Sampler(self._sampling)
            last_s, unconverted = 0.0, 0
            for timestamp_s, frame in self._frames:
                if sampler.past_end(timestamp_s):
                    break
                self.decoded += self._skipping.passed(timestamp_s)
                index, last_s = self.decoded, timestamp_s
                if self._video.drops_unsaid:
                    self._gaps.see(timestamp_s)
                self._limits.check_frames(index + 1)
                if sampler.wants(timestamp_s):
                    if self._skipping.first_s is None:
                        self._skipping.first_s = timestamp_s
                    picture = self._pictures.picture(frame, self._video.stream.sample_aspect_ratio)
                    unconverted += picture is None
                    self._clock.tick()
                    yield DecodedFrame(index, timestamp_s, picture)
                    self._clock.resume()
                self.decoded += 1
            else:
                self.decoded += self._skipping.passed()
                self._check_complete(last_s)
            self._say_what_was_odd(unconverted)

    def close(self) -> None:
        """Release the decoder; idempotent."""
        self._video.close()

    def _check_claims(self) -> None:
        """Reject an input whose reliable claims exceed the limit before decoding it.  Raises: LimitExceededError."""
        frames = self._claims.frames
        if not self._claims.agreed or frames is None:
            return
        if self._sampling.end_s is not None:
            frames = min(frames, indexed_before(self._video, self._sampling.end_s))
        self._limits.check_frames(frames)

    def _timed(self, frames: Iterator[VideoFrame]) -> Iterator[tuple[float | None, VideoFrame]]:
        for frame in frames:
            found_s = time_s(frame, self._video.stream.time_base)
            yield None if found_s is None else found_s - self._zero_s, frame

    def _check_complete(self, last_s: float) -> None:
        found, fps = self._claims, self._claims.fps or DEFAULT_FPS
        if found.promised_s is None or found.promised_s - last_s <= max(
            (MISSING_FRAMES + 1) / fps, MISSING_SHARE * found.promised_s
        ):
            return
        if found.promised is None:
            claim = f"{found.promised_s:.1f} s"
        elif found.promised - self.decoded > max(MISSING_FRAMES, MISSING_SHARE * found.promised):
            claim = str(found.promised)
        else:
            return
        self._ended_early = True
        self.warnings.append(
            f"the video ends early: {self.decoded} frames could be decoded, its container claims {claim}"
        )

    def _say_what_was_odd(self, unconverted: int) -> None:
        cut_off = self._ended_early  # in the middle of a packet
        track = self._track
        if track.damaged + track.faulty + self._gaps.missing > cut_off:
            missing = f"; {self._gaps.missing} are missing" if self._gaps.missing else ""
            self.warnings.append(
                f"{track.damaged} of {track.packets} packets of the video are damaged;"
                f" {self.decoded} pictures could be decoded, {track.faulty} of them with faults{missing}"
            )
        if self._times.filled:
            self.warnings.append(UNORDERED.format(self._times.filled))
        if unconverted:
            self.warnings.append(f"{unconverted} pictures could not be converted and have no faces")
