"""Opening a video file: allow-lists of demuxers and decoders, and the choice of the video track.

FFmpeg reads a Python file object and opens no file itself: no protocol is allowed, and references of a container are
rejected.  Source: FFmpeg's documentation of `format_whitelist`, `protocol_whitelist` and `codec_whitelist`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from worker.decode import UndecodableInputError
from worker.decode.times import GifClock, PacketClock

# FFmpeg's names of demuxers.  None of them follows references by default.
DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "gif", "flv", "asf", "ogg", "mxf", "dv",
)  # fmt: skip
# Decoders for cameras, phones, browsers, editors and archives, without those of games and terminals.
DECODERS = frozenset(
    {
        "h264", "hevc", "vp8", "vp9", "libdav1d", "mpeg4", "msmpeg4v1", "msmpeg4", "msmpeg4v2",
        "mpeg1video", "mpeg2video", "h261", "h263", "h263i", "h263p", "flv", "vp3", "vp6", "vp6a", "vp6f", "theora",
        "wmv1", "wmv2", "wmv3", "vc1", "mjpeg", "mjpegb", "jpeg2000", "prores", "dnxhd", "dvvideo",
        "cfhd", "ffv1", "ffvhuff", "huffyuv", "utvideo", "magicyuv", "rawvideo", "v210", "v308", "v408", "v410",
        "yuv4", "png", "gif", "qtrle", "svq1", "svq3", "cinepak", "indeo3", "indeo4", "indeo5", "msvideo1", "rpza",
    }
)  # fmt: skip
# Containers that browsers play; their timestamps are a player's media time.
BROWSER_DEMUXERS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
BROADCAST_DEMUXERS = frozenset({"mpegts", "mpeg"})

BUFFER_BYTES = 256 * 1024
MOST_FAILURES = 100  # reads that fail one after the other before the rest is given up
# Probe limits for the size of pictures: a recording may start long before the next keyframe.
PROBE_BYTES, PROBE_US = 32 * 2**20, 30_000_000
NO_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image

NO_VIDEO = (
    "the input is not a video that can be decoded; send mp4, mov, 3gp, webm, mkv, avi, ts, m2ts, mpg, flv, wmv, ogv,"
    " mxf, dv or gif"
)


class OpenVideo:
    """An open container with its chosen video track.  name: FFmpeg's name of the demuxer.

    Raises: UndecodableInputError for an unsupported container, or one without a decodable track; MemoryError.
    """

    def __init__(self, path: Path, decoders: frozenset[str] = DECODERS) -> None:
        """decoders: those that may be opened, for sound, too."""
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError:
            raise UndecodableInputError(NO_VIDEO) from None
        try:
            self.container: InputContainer = av.open(
                self._file,
                mode="r",
                container_options={
                    "format_whitelist": ",".join(DEMUXERS),
                    "protocol_whitelist": "none",
                    "codec_whitelist": ",".join(sorted(decoders)),
                    "probesize": str(PROBE_BYTES),
                    "analyzeduration": str(PROBE_US),
                    "correct_ts_overflow": "0",  # `worker.decode.times` separates wrapped from joined clocks
                },
                metadata_errors="ignore",
                buffer_size=BUFFER_BYTES,
                io_open=_refuse,
            )
        except MemoryError:
            self._file.close()
            raise
        except (av.FFmpegError, OSError, ValueError):
            self._file.close()
            raise UndecodableInputError(NO_VIDEO) from None
        self.name = self.container.format.name
        try:
            self.stream = _choose(self.container)
        except UndecodableInputError:
            self.close()
            raise

    @property
    def plays_in_browsers(self) -> bool:
        """Whether its timestamps are a player's media time and must not be shifted to 0."""
        return self.name in BROWSER_DEMUXERS

    @property
    def has_no_times(self) -> bool:
        """Whether its packets have decoding times only, no presentation times."""
        return self.name == "avi"

    def packet_clock(self) -> PacketClock | GifClock:
        """The clock that corrects its packets' timestamps; not for containers that browsers play."""
        return GifClock(self.stream) if self.name == "gif" else PacketClock(self.stream)

    @property
    def drops_unsaid(self) -> bool:
        """Whether its demuxer drops damaged data silently, so that only gaps reveal it."""
        return self.name in BROADCAST_DEMUXERS

    def pass_over_other_tracks(self, track: Stream | None = None) -> None:
        """Read only packets of one track from now on, None for that of the pictures."""
        for stream in self.container.streams:
            if stream.index != (track or self.stream).index:
                stream.discard = Discard.all

    def packets(self) -> Iterator[Packet[Any]]:
        """Packets in file order, also those behind what cannot be read.  Raises: MemoryError."""
        failures = 0
        packets = self.container.demux()
        while failures < MOST_FAILURES:
            try:
                packet = next(packets, None)
            except MemoryError:
                raise
            except (av.FFmpegError, OSError):
                failures += 1
                packets = self.container.demux()
                continue
            except IndexError:
                # At the end PyAV reads beyond an array where a track has appeared meanwhile, as in FLV and MPEG-TS.
                return
            if packet is None:
                return
            failures = 0
            yield packet

    def close(self) -> None:
        """Release decoder and file; idempotent."""
        self.container.close()
        self._file.close()


def _refuse(url: str, flags: int, options: object) -> NoReturn:
    raise PermissionError("a video may not refer to another file")


def _choose(container: InputContainer) -> VideoStream:
    """The default track, else the largest, among decodable tracks; never a cover or thumbnail."""
    tracks = [
        stream
        for stream in container.streams.video
        if not stream.disposition & NO_PICTURES and stream.codec_context is not None
    ]
    decodable = [stream for stream in tracks if stream.codec_context.codec.name in DECODERS]
    if not decodable:
        if tracks:
            name = tracks[0].codec_context.codec.name
            raise UndecodableInputError(f"the video's codec, {name}, is not one that is decoded here")
        raise UndecodableInputError(NO_VIDEO)
    return max(decodable, key=_rank)


def _rank(stream: VideoStream) -> tuple[bool, int, int]:
    """Sort key: default track, size, then the first."""
    size = stream.codec_context.width * stream.codec_context.height
    return bool(stream.disposition & Disposition.default), size, -stream.index
