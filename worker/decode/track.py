"""The video track of an open container: from its packets to decoded frames, skipping damaged packets."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast

import av
from av.codec.context import Flags as CodecFlags
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from worker.decode import DecodeLimits, decoding_threads
from worker.decode.container import OpenVideo
from worker.decode.skipping import Skipping

TRIES = 3  # attempts for a packet that the decoder does not accept at once
KEPT_BYTES = 32 * 2**20  # of packets that may be decoded again

av.logging.set_level(None)  # its complaints have no job's id; what matters of them is counted


class Track:
    """packets: read so far.  damaged: of them, those that the decoder refused.  faulty: frames that it calls damaged.

    tick: called now and then while decoding.
    """

    def __init__(self, video: OpenVideo, limits: DecodeLimits, skipping: Skipping, tick: Callable[[], None]) -> None:
        self._video, self._limits, self._skipping, self._tick = video, limits, skipping, tick
        self._codec = video.stream.codec_context
        self._tags = _tags(self._codec)
        self._codec.flags |= CodecFlags.output_corrupt
        self._codec.thread_type, self._codec.thread_count = "AUTO", decoding_threads()
        self.packets = self.damaged = self.faulty = 0
        # When packets are decoded, a heap, where nothing tells when they are shown: FFmpeg's guesses are wrong where
        # pictures are reordered.  The first picture that is shown has the earliest of these times, and so on.
        self._stamps: list[int] = []
        self._kept: list[Packet[Any]] = []
        self._kept_bytes = 0
        self._shown = -1  # the latest time of a frame

    def frames(self) -> Iterator[VideoFrame]:
        """Every decodable frame that is not skipped, in presentation order.

        Raises: LimitExceededError, MemoryError.
        """
        begun = False
        for frames, refused in self._decoded():
            self.damaged += refused and begun  # before the first picture, those that it needs may not be there
            self._tick()
            for frame in frames:
                begun = begun or not frame.is_corrupt
                if not begun:  # a recording that starts between keyframes: grey, with what moves
                    continue
                self.faulty += frame.is_corrupt
                if self._stamps:
                    frame.pts = heapq.heappop(self._stamps)
                for name, value in self._tags.items():
                    setattr(frame, name, value)
                self._limits.check_pixels(frame.width, frame.height)
                self._shown = max(self._shown, frame.pts or 0)
                yield frame

    def _decoded(self) -> Iterator[tuple[list[VideoFrame], bool]]:
        """Frames, and whether a packet was refused, packet by packet."""
        last = -1  # the latest time of a packet whose frame is expected
        for packet in self._needed():
            if packet is not None and not self._video.has_no_times:
                self._keep(packet)
                if self._codec.skip_frame == "DEFAULT" and not packet.is_discard:
                    last = max(last, packet.pts or 0)
            yield self._decode(packet)
        if last > self._shown:
            yield from self._at_the_end()

    def _keep(self, packet: Packet[Any]) -> None:
        """Remember the packets from the last keyframe on, as long as they are few."""
        if packet.is_keyframe:
            self._kept, self._kept_bytes = [], 0
        self._kept_bytes += packet.size
        if self._kept_bytes <= KEPT_BYTES:
            self._kept.append(packet)
        else:
            self._kept = []

    def _at_the_end(self) -> Iterator[tuple[list[VideoFrame], bool]]:
        """What one thread makes of the last packets and several have not shown.

        After an error in one of the last packets, one for each thread, PyAV gives none of the frames behind it.
        """
        codec = cast(VideoCodecContext, VideoCodecContext.create(self._codec.codec, "r"))
        codec.extradata, codec.codec_tag = self._codec.extradata, self._codec.codec_tag
        codec.width, codec.height = self._codec.width, self._codec.height
        codec.flags |= CodecFlags.output_corrupt
        codec.thread_type, codec.thread_count = "NONE", 1
        for packet in [*self._kept, None]:
            with suppress(av.FFmpegError):
                yield [frame for frame in codec.decode(packet) if (frame.pts or 0) > self._shown], False

    def _decode(self, packet: Packet[Any] | None) -> tuple[list[VideoFrame], bool]:
        """The frames that are ready after this packet (None: after the last), and whether the packet was rejected."""
        if packet is not None and packet.dts is not None and self._video.has_no_times:
            heapq.heappush(self._stamps, packet.dts)
        for _ in range(TRIES):
            try:
                return self._codec.decode(packet), False
            except (av.BlockingIOError, av.EOFError):
                continue
            except MemoryError:
                raise
            except av.FFmpegError:
                if self._stamps:  # one picture less comes
                    heapq.heappop(self._stamps)
                return [], True
        return [], False

    def _needed(self) -> Iterator[Packet[Any] | None]:
        """Packets that are to be decoded, and None after the last.

        A picture from which others are made is decoded in any case; the decoder passes over others when it is told to.
        """
        skips, last = False, None
        for packet in self._read():
            if last is not None and not (skips and last.is_keyframe and packet.is_keyframe):
                self._codec.skip_frame = "NONREF" if skips else "DEFAULT"
                yield last
            skips, last = self._skipping.skips(packet), packet
            if skips and self._skipping.stands_alone:
                continue
            self._codec.skip_frame = "NONREF" if skips else "DEFAULT"
            yield packet
            last = None
        if last is not None:
            self._codec.skip_frame = "DEFAULT"
            yield last
        yield None

    def _read(self) -> Iterator[Packet[Any]]:
        """The track's packets, in file order, with continuous timestamps."""
        video, clock = self._video, None
        if video.plays_in_browsers:
            video.pass_over_other_tracks()
        else:
            clock = video.packet_clock()
        for packet in video.packets():
            if clock is not None:
                clock.set(packet)
            if packet.stream_index == video.stream.index and packet.size:
                self.packets += 1
                yield packet


def _tags(codec: VideoCodecContext) -> dict[str, int]:
    """Colour tags of the container that frames lack: FFmpeg's VP8 decoder replaces them by its own defaults."""
    if codec.name != "vp8":
        return {}
    found = {"color_range": (codec.color_range, (0,)), "colorspace": (codec.colorspace, (0, 2))}
    return {name: value for name, (value, unknown) in found.items() if value not in unknown}
