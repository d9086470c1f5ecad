"""A container's claims: number of frames, frame rate, duration.  They are untrusted.

An index lists the frames without reading them.  A container without one is demuxed once before decoding, packets only,
up to `SCAN_BYTES`; the rest is extrapolated at the same rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import av
from av.video.stream import VideoStream

from worker.decode.container import OpenVideo
from worker.decode.times import LONGEST_S, PLAUSIBLE_FPS, time_s, zero_s

SCAN_BYTES = 64 * 2**20
EDGE = 4096  # entries at either end of an index that may be hidden: pre-roll before a cut, frames after it
AGREE = 0.1  # relative tolerance between index and duration
SAME_RATE = 0.02  # relative tolerance between measured and declared frame rate
# Their durations are estimated from the last bytes of the file, so they do not reveal missing data.
NO_DURATION = frozenset({"mpegts", "mpeg", "dv", "gif"})


@dataclass(frozen=True)
class Claims:
    """frames: present in the file, by index or packets.  fps: their mean rate.  None: unknown.

    ends_s: end of the last of them, on the clock of `timestamp_s`.  promised: frames of the index, including those
    beyond the end of the file.  promised_s: declared end of the track, or of the file.
    agreed: whether index and duration are consistent.
    """

    frames: int | None
    fps: float | None
    ends_s: float | None
    promised: int | None = None
    promised_s: float | None = None
    agreed: bool = False


def claims(video: OpenVideo, path: Path, tick: Callable[[], None]) -> Claims:
    """The claims of an open video.  path: its file, for a second read.  tick: called regularly."""
    return _of_index(video) or _of_packets(path, tick)


def indexed_before(video: OpenVideo, end_s: float) -> int:
    """The number of frames in the index before that time."""
    stream = video.stream
    if not stream.time_base:
        return 0
    zero = zero_s(video.container, plays_in_browsers=video.plays_in_browsers)
    return stream.index_entries.search_timestamp(int((end_s + zero) / stream.time_base), any_frame=True) + 1


def _of_index(video: OpenVideo) -> Claims | None:
    stream, entries = video.stream, video.stream.index_entries
    count = len(entries)
    if not stream.frames or not count or abs(count - stream.frames) > AGREE * stream.frames + EDGE:
        return None
    if not stream.duration or not stream.time_base or stream.duration < 0:
        return None
    edges = [*entries[:EDGE], *entries[max(EDGE, count - EDGE) :]]
    hidden = sum(entry.is_discard for entry in edges)
    duration_s = float(stream.duration * stream.time_base)
    begins_s = float((stream.start_time or 0) * stream.time_base)
    ends_s = begins_s + duration_s - zero_s(video.container, plays_in_browsers=video.plays_in_browsers)
    spanned_s = float((entries[count - 1].timestamp - entries[0].timestamp) * stream.time_base)
    fps = (count - hidden) / duration_s
    return Claims(
        frames=max(_inside(video) - hidden, 0),
        fps=_rate(fps, stream),
        ends_s=ends_s,
        promised=count - hidden,
        promised_s=ends_s,
        agreed=fps <= PLAUSIBLE_FPS and abs(spanned_s - duration_s) <= AGREE * duration_s,
    )


def _inside(video: OpenVideo) -> int:
    """The number of index entries inside the file, assuming that positions increase with time."""
    entries, size = video.stream.index_entries, video.container.size
    low, high = 0, len(entries)
    while low < high:
        middle = (low + high) // 2
        if entries[middle].pos + entries[middle].size <= size:
            low = middle + 1
        else:
            high = middle
    return low


def _of_packets(path: Path, tick: Callable[[], None]) -> Claims:
    with closing(OpenVideo(path)) as video:
        stream = video.stream
        zero = zero_s(video.container, plays_in_browsers=video.plays_in_browsers)
        clock = video.packet_clock()
        count, at, first_s, last_s, any_s = 0, 0, math.inf, -math.inf, -math.inf
        with suppress(av.FFmpegError, OSError, IndexError):  # the last: see `OpenVideo.packets`
            for packet in video.container.demux():
                tick()
                if not packet.size:
                    continue
                clock.set(packet)
                at = max(at, packet.pos or 0)
                shown_s = time_s(packet, None)
                if shown_s is not None:
                    any_s = max(any_s, shown_s - zero)
                if packet.stream_index == stream.index:
                    count += 1
                    if shown_s is not None:
                        first_s, last_s = min(first_s, shown_s - zero), max(last_s, shown_s - zero)
                if at > SCAN_BYTES:
                    break
        promised_s = _promised_s(video, stream, any_s)
        spanned_s = last_s - first_s
        fps = (count - 1) / spanned_s if count > 1 and 0 < spanned_s < LONGEST_S else None
        ends_s = last_s + 1 / fps if fps else None
        if at > SCAN_BYTES and fps:
            total_s = promised_s or spanned_s * video.container.size / at
            count, ends_s = max(count, round((total_s - max(first_s, 0.0)) * fps)), total_s
        rate = _rate(fps, stream)
    return Claims(count or None, rate, ends_s, promised_s=promised_s)


def _rate(measured: float | None, stream: VideoStream) -> float | None:
    """Frames a second: the declared rate if it is close to the measured one, else the measured one."""
    if measured is None or measured > PLAUSIBLE_FPS:
        return None
    said = float(stream.average_rate or 0)
    return said if abs(said - measured) < SAME_RATE * measured else measured


def _promised_s(video: OpenVideo, stream: VideoStream, any_s: float) -> float | None:
    """The declared end of the track, or else the container's duration."""
    if video.name in NO_DURATION:
        return None
    with suppress(KeyError, ValueError):  # Matroska's tag, as FFmpeg and mkvmerge write it: 00:00:19.690000000
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return None if video.container.duration is None else video.container.duration / 1e6
