"""Pictures that are not sampled need not be decoded, where no other picture is made from them.

Whether a picture is the first of its sampling period is known from its packet's time only if one before it in the same
period is known already; packets come in the order of decoding, so what is not known is decoded.
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

# Decoders that make every picture from its packet alone.
INTRA = frozenset(
    {
        "mjpeg", "mjpegb", "jpeg2000", "prores", "dnxhd", "dvvideo", "cfhd", "ffvhuff", "huffyuv", "utvideo",
        "magicyuv", "rawvideo", "v210", "v308", "v408", "v410", "yuv4", "png",
    }
)  # fmt: skip
LOOKED_AT = 500  # entries of the index that tell whether every picture is a keyframe
SAME_S = 1e-6


class Skipping:
    """Decides packet by packet.  zero_s: what the container's clock shows at our 0.

    first_s: the time of the first sampled picture, from which periods count; None until it is known.
    """

    def __init__(self, video: OpenVideo, sampling: Sampling, zero_s: float) -> None:
        self.first_s: float | None = None
        self.stands_alone = _stands_alone(video.stream)
        self._stream, self._zero_s = video.stream, zero_s
        self._start_s = sampling.start_s or 0.0
        self._period_s = None if sampling.sample_fps is None else 1 / sampling.sample_fps
        # Of other containers times are not exact, or may be changed.
        self._active = video.plays_in_browsers and (self._period_s is not None or self._start_s > 0)
        self._known: dict[int, float] = {}  # period -> the earliest time in it that is decoded
        self._skipped: list[float] = []  # times, a heap

    def off(self) -> None:
        """Decode everything: pictures are made from their neighbours."""
        self._active = False

    def skips(self, packet: Packet[Any]) -> bool:
        """Whether its picture is not sampled; if so, `passed` counts it unless it comes nevertheless."""
        shown_s = time_s(packet, self._stream.time_base) if self._active and packet.pts is not None else None
        if shown_s is None or self._samples(shown_s - self._zero_s):
            return False
        heapq.heappush(self._skipped, shown_s - self._zero_s)
        return True

    def passed(self, shown_s: float = math.inf) -> int:
        """How many pictures before this one have been skipped since it was last asked."""
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
        if abs(place - round(place)) < SAME_S:  # between two periods: the sampler may put it into either
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
