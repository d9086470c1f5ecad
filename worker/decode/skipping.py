"""Skip decoding of pictures that are not sampled and that no other picture references.

Packets come in decoding order.  A picture is known not to be sampled if an earlier picture of the same sampling period
is known; otherwise it is decoded.
"""

from __future__ import annotations

import heapq
import math
from typing import Any

from av.packet import Packet
from av.video.stream import VideoStream

from worker.decode import Sampler, Sampling
from worker.decode.container import OpenVideo
from worker.decode.times import time_s

# Intra-only codecs: every picture is decoded from its packet alone.
INTRA = frozenset(
    {
        "mjpeg", "mjpegb", "jpeg2000", "prores", "dnxhd", "dvvideo", "cfhd", "ffvhuff", "huffyuv", "utvideo",
        "magicyuv", "rawvideo", "v210", "v308", "v408", "v410", "yuv4", "png",
    }
)  # fmt: skip
LOOKED_AT = 500  # index entries checked for whether every picture is a keyframe
SAME_S = 1e-6


class Skipping:
    """Decides for each packet.  zero_s: the container's time at `timestamp_s` 0.

    first_s: the time of the first sampled picture, where periods start; None until known.
    """

    def __init__(self, video: OpenVideo, sampling: Sampling, zero_s: float) -> None:
        self.first_s: float | None = None
        self.stands_alone = _stands_alone(video.stream)
        self._stream, self._zero_s = video.stream, zero_s
        self._start_s = sampling.start_s or 0.0
        self._period_s = None if sampling.sample_fps is None else 1 / sampling.sample_fps
        # Timestamps of other containers are inexact or corrected later.
        self._active = video.plays_in_browsers and (self._period_s is not None or self._start_s > 0)
        self._known: dict[int, float] = {}  # period -> its earliest decoded time
        self._skipped: list[float] = []  # times, a heap

    def off(self) -> None:
        """Decode everything: deinterlacing needs a picture's neighbours."""
        self._active = False

    def skips(self, packet: Packet[Any]) -> bool:
        """Whether the packet's picture is not sampled; `passed` counts it, unless it is decoded all the same."""
        shown_s = time_s(packet, self._stream.time_base) if self._active and packet.pts is not None else None
        if shown_s is None or self._samples(shown_s - self._zero_s):
            return False
        heapq.heappush(self._skipped, shown_s - self._zero_s)
        return True

    def passed(self, shown_s: float = math.inf) -> int:
        """The number of pictures skipped before this time since the last call."""
        count = 0
        while self._skipped and self._skipped[0] < shown_s + SAME_S:
            count += heapq.heappop(self._skipped) < shown_s - SAME_S
        return count

    def _samples(self, shown_s: float) -> bool:
        if shown_s < self._start_s - Sampler.SLACK_S:
            return False
        if self._period_s is None or self.first_s is None:
            return True
        place = (shown_s + Sampler.SLACK_S - self.first_s) / self._period_s
        if abs(place - round(place)) < SAME_S:  # on the border of two periods the sampler may choose either
            return True
        period = math.floor(place)
        known_s = self._known.get(period, math.inf)
        self._known[period] = min(known_s, shown_s)
        if len(self._known) > 2:  # pictures are not reordered over whole periods
            self._known.pop(min(self._known))
        return shown_s <= known_s


def _stands_alone(stream: VideoStream) -> bool:
    """Whether every picture is a keyframe."""
    if stream.codec_context.codec.name in INTRA:
        return True
    entries = stream.index_entries[:LOOKED_AT]
    return len(entries) > 1 and all(entry.is_keyframe for entry in entries)
