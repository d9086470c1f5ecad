"""Adds an input's sound to pictures rendered from it: copied if players read it in mp4, otherwise encoded as AAC.

Times are those of `video`: a player's media time, or the container's from its start, continuous over joined clocks.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition

from worker.decode.container import DECODERS, OpenVideo
from worker.decode.messages import Sound
from worker.decode.times import BACK_S, PacketClock, zero_s

# Codecs that players read in mp4.
COPIED = frozenset({"aac", "mp3", "opus", "flac", "alac", "ac3", "eac3"})
# Decoders for the sound of accepted containers: of browsers, cameras, phones, broadcasts and discs.
SOUND_DECODERS = frozenset(
    {
        "aac", "aac_latm", "ac3", "alac", "amrnb", "amrwb", "dca", "eac3", "flac", "mlp", "mp1", "mp1float", "mp2",
        "mp2float", "mp3", "mp3float", "nellymoser", "opus", "speex", "truehd", "vorbis", "wmav1", "wmav2", "wmapro",
        "wmalossless", "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "adpcm_swf", "adpcm_yamaha", "gsm_ms", "pcm_alaw",
        "pcm_bluray", "pcm_dvd", "pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le", "pcm_mulaw", "pcm_s16be",
        "pcm_s16le", "pcm_s16le_planar", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le", "pcm_s8", "pcm_u8",
    }
)  # fmt: skip
AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
AAC_BITS = 96_000  # a second and channel
OTHER_RATE = 48_000
SLACK_S = 0.01  # deviation of a frame's time from the samples before it that is no gap: containers round times
BLOCK = 1024  # samples of silence at once
LONGEST = 2**62  # samples

Samples = npt.NDArray[np.float32]  # (channels, N)
Timed: TypeAlias = "tuple[float, Packet[Any]]"  # seconds of the presentation


def add_sound(given: Sound, tick: Callable[[], None]) -> bool:
    """Write the pictures with the input's sound to `given.made`, an mp4; False, and no file, if there is no sound.

    given.pictures: an mp4 whose times are the input's.  start_s, end_s: the part of the sound, None for no limit.  Of
    several tracks, the default one is taken, else the first, among those that can be decoded.  tick: called at each
    packet.
    Raises: UndecodableInputError for another input than a video; FFmpegError.
    """
    try:
        return _add(given, tick, may_copy=True)
    except av.FFmpegError:  # such as MP3 below 16 kHz, which mp4 cannot hold
        return _add(given, tick, may_copy=False)


def _add(given: Sound, tick: Callable[[], None], *, may_copy: bool) -> bool:
    with ExitStack() as opened:
        video = opened.enter_context(closing(OpenVideo(Path(given.path), DECODERS | SOUND_DECODERS)))
        track = _choose(video.container)
        if track is None:
            return False
        drawn = opened.enter_context(av.open(given.pictures))
        made = opened.enter_context(av.open(given.made, "w", format="mp4", options={"movflags": "+faststart"}))
        packets = _part(_timed(video, track, _offsets(Path(given.path), tick), tick), given)
        is_copied = may_copy and track.codec_context.codec.canonical_name in COPIED
        sound = _copied(packets, track, made) if is_copied else _as_aac(packets, track, made, given)
        for packet in heapq.merge(_pictures(drawn, made), sound, key=_decoded_s):
            made.mux(packet)
    return True


def _choose(container: InputContainer) -> AudioStream | None:
    tracks = [
        track
        for track in container.streams.audio
        if track.codec_context is not None and track.codec_context.codec.name in SOUND_DECODERS
    ]
    return max(tracks, key=lambda track: (bool(track.disposition & Disposition.default), -track.index), default=None)


def _decoded_s(packet: Packet[Any]) -> float:
    return float((packet.dts or 0) * (packet.time_base or 0))


def _pictures(drawn: InputContainer, made: OutputContainer) -> Iterator[Packet[Any]]:
    stream = made.add_stream_from_template(drawn.streams.video[0], opaque=True)
    for packet in drawn.demux(video=0):
        if packet.dts is not None:  # not the empty one at the end
            packet.stream = stream
            yield packet


def _offsets(path: Path, tick: Callable[[], None]) -> list[float]:
    """Offsets of the pictures' clock to the container's times, seconds: 0, then a value per jump."""
    found = [0.0]
    with closing(OpenVideo(path)) as video:
        if not video.plays_in_browsers:
            clock = PacketClock(video.stream)
            for packet in video.packets():
                tick()
                clock.set(packet)
                if clock.offset_s != found[-1]:
                    found.append(clock.offset_s)
    return found


def _timed(video: OpenVideo, track: AudioStream, offsets: list[float], tick: Callable[[], None]) -> Iterator[Timed]:
    """Packets of the track with their times; their timestamps are set accordingly.

    At a jump of the clock, the later offset that continues the sound best is used.
    """
    video.pass_over_other_tracks(track)
    base = track.time_base or Fraction(1, 90_000)
    zero = zero_s(video.container, plays_in_browsers=video.plays_in_browsers)
    passed, expected_s = 0, -math.inf
    for packet in video.packets():
        tick()
        stamp = packet.pts if packet.pts is not None else packet.dts
        if packet.stream_index != track.index or stamp is None:
            continue
        said_s = float(stamp * base) - zero
        if expected_s > -math.inf and abs(said_s + offsets[passed] - expected_s) > BACK_S:
            passed = min(range(passed, len(offsets)), key=lambda i: abs(said_s + offsets[i] - expected_s))
        ticks = round((offsets[passed] - zero) / base)
        packet.pts = stamp + ticks
        packet.dts = packet.pts if packet.dts is None else packet.dts + ticks
        shown_s = float(packet.pts * base)
        expected_s = shown_s + float((packet.duration or 0) * base)
        yield shown_s, packet


def _part(packets: Iterable[Timed], given: Sound) -> Iterator[Timed]:
    """Packets within the part, with increasing timestamps.  A decoder's priming packets may precede 0."""
    start_s, last = given.start_s or -math.inf, None
    for shown_s, packet in packets:
        ends_s = shown_s + float((packet.duration or 0) * (packet.time_base or 0))
        cut_out = packet.is_discard and shown_s >= 0  # by an edit list
        if given.end_s is not None and shown_s >= given.end_s:
            return
        if ends_s > start_s and not cut_out and (last is None or (packet.dts or 0) > last):
            last = packet.dts
            yield shown_s, packet


def _copied(packets: Iterable[Timed], track: AudioStream, made: OutputContainer) -> Iterator[Packet[Any]]:
    stream = None
    for _, packet in packets:
        stream = stream or made.add_stream_from_template(track)
        packet.stream = stream
        yield packet


def _as_aac(packets: Iterable[Timed], track: AudioStream, made: OutputContainer, given: Sound) -> Iterator[Packet[Any]]:
    stream = layout = None
    rate = track.codec_context.sample_rate
    rate = rate if rate in AAC_RATES else OTHER_RATE
    pieces = _resampled(_decoded(packets, track), rate)
    for position, samples in _continuous(pieces, rate, given):
        if stream is None:
            layout = "mono" if len(samples) == 1 else "stereo"
            stream = made.add_stream("aac", rate=rate, layout=layout)
            stream.codec_context.bit_rate = AAC_BITS * len(samples)
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout or "")
        frame.sample_rate, frame.pts, frame.time_base = rate, position, Fraction(1, rate)
        yield from stream.encode(frame)
    if stream is not None:
        yield from stream.encode()


def _decoded(packets: Iterable[Timed], track: AudioStream) -> Iterator[AudioFrame]:
    for _, packet in packets:
        with suppress(av.FFmpegError):  # damaged; the silence in its place is `_continuous`'s
            yield from track.codec_context.decode(packet)
    with suppress(av.FFmpegError):
        yield from track.codec_context.decode(None)


def _resampled(frames: Iterable[AudioFrame], rate: int) -> Iterator[tuple[int | None, Samples]]:
    """Resampled to the rate, with one or two channels as the first frame: samples, position of the first if known."""
    resampler, kind, layout = None, None, ""
    for frame in frames:
        layout = layout or ("mono" if frame.layout.nb_channels == 1 else "stereo")
        if kind != (kind := (frame.format.name, frame.layout.name, frame.sample_rate)):
            resampler = AudioResampler("fltp", layout, rate)
        for made in resampler.resample(frame) if resampler else ():
            position = None if made.pts is None or made.time_base is None else round(made.pts * made.time_base * rate)
            yield position, np.asarray(made.to_ndarray(), np.float32)


def _continuous(pieces: Iterable[tuple[int | None, Samples]], rate: int, given: Sound) -> Iterator[tuple[int, Samples]]:
    """Samples of the part without gaps or repetitions; missing ones are silence."""
    start = round((given.start_s or 0.0) * rate)
    end = LONGEST if given.end_s is None else round(given.end_s * rate)
    due = None
    for position, samples in pieces:
        if due is None:
            due = max(position or 0, start)
        at = due if position is None or abs(position - due) <= SLACK_S * rate else position
        for silent in range(due, min(at, end), BLOCK):
            yield silent, np.zeros((len(samples), min(BLOCK, min(at, end) - silent)), np.float32)
        due = max(due, min(at, end))
        kept = samples[:, max(due - at, 0) : max(end - at, 0)]
        if kept.shape[1]:
            yield due, kept
            due += kept.shape[1]
