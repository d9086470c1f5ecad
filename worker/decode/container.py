"""Opening a video file: which demuxers and decoders strangers' inputs reach, and which of its tracks is the film.

FFmpeg reads a Python file, so it opens nothing by itself: no protocol is allowed, and whatever a container refers to
is refused.  Source: FFmpeg's documentation of `format_whitelist`, `protocol_whitelist` and `codec_whitelist`.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, NoReturn

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from worker.decode import UndecodableInputError
from worker.decode.times import GifClock, PacketClock

# FFmpeg's names of demuxers.  None of them follows a reference unless it is told to.
DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "gif", "flv", "asf", "ogg", "mxf", "dv",
)  # fmt: skip
# Decoders of cameras, phones, browsers, editors and archives; what only games and terminals wrote is left out.
DECODERS = frozenset(
    {
        "h264", "hevc", "vp8", "vp9", "libdav1d", "mpeg4", "msmpeg4v1", "msmpeg4", "msmpeg4v2",
        "mpeg1video", "mpeg2video", "h261", "h263", "h263i", "h263p", "flv", "vp3", "vp6", "vp6a", "vp6f", "theora",
        "wmv1", "wmv2", "wmv3", "vc1", "mjpeg", "mjpegb", "jpeg2000", "prores", "dnxhd", "dvvideo",
        "cfhd", "ffv1", "ffvhuff", "huffyuv", "utvideo", "magicyuv", "rawvideo", "v210", "v308", "v408", "v410",
        "yuv4", "png", "gif", "qtrle", "svq1", "svq3", "cinepak", "indeo3", "indeo4", "indeo5", "msvideo1", "rpza",
    }
)  # fmt: skip
# Containers that browsers play: their times are a player's media time.
BROWSER_DEMUXERS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
BROADCAST_DEMUXERS = frozenset({"mpegts", "mpeg"})

BUFFER_BYTES = 256 * 1024
# How much of a stream is looked at for the size of its pictures: a recording may start long before the next keyframe.
PROBE_BYTES, PROBE_US = 32 * 2**20, 30_000_000
NO_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image

NO_VIDEO = (
    "the input is not a video that can be decoded; send mp4, mov, 3gp, webm, mkv, avi, ts, m2ts, mpg, flv, wmv, ogv,"
    " mxf, dv or gif"
)


class OpenVideo:
    """An open container and the video track that is labelled.  name: FFmpeg's of the demuxer.

    Raises: UndecodableInputError if it is none of the containers, or has no track that can be decoded; MemoryError.
    """

    def __init__(self, path: Path) -> None:
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
                    "codec_whitelist": ",".join(sorted(DECODERS)),
                    "probesize": str(PROBE_BYTES),
                    "analyzeduration": str(PROBE_US),
                    "correct_ts_overflow": "0",  # `worker.decode.times` tells a wrapped clock from a joined one
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
        """Whether its times are those of a player, not to be moved to 0."""
        return self.name in BROWSER_DEMUXERS

    @property
    def has_no_times(self) -> bool:
        """Whether its packets say in which order they are decoded, and not when they are shown."""
        return self.name == "avi"

    def packet_clock(self) -> PacketClock | GifClock:
        """What gives its packets their times; not for containers that browsers play."""
        return GifClock(self.stream) if self.name == "gif" else PacketClock(self.stream)

    @property
    def drops_unsaid(self) -> bool:
        """Whether its reader passes over what is damaged, so that only a gap tells of it."""
        return self.name in BROADCAST_DEMUXERS

    def pass_over_other_tracks(self) -> None:
        """From now on packets of this track alone are read."""
        for stream in self.container.streams:
            if stream.index != self.stream.index:
                stream.discard = Discard.all

    def close(self) -> None:
        """Release decoder and file; safe to call twice."""
        self.container.close()
        self._file.close()


def _refuse(url: str, flags: int, options: object) -> NoReturn:
    raise PermissionError("a video may not refer to another file")


def _choose(container: InputContainer) -> VideoStream:
    """The default track, of several the largest; never a cover, a thumbnail or what cannot be decoded."""
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
    """Larger is better; of equals the first."""
    size = stream.codec_context.width * stream.codec_context.height
    return bool(stream.disposition & Disposition.default), size, -stream.index
