"""The sound of an input beside pictures that were made of it: the same sound, in time with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.worker.decode.scenes import CODECS, LIMITS, read, scene, write
from worker.decode import Sampling, UndecodableInputError
from worker.decode.isolated import DecodingProcess
from worker.decode.isolated import add_sound as add_sound_isolated
from worker.decode.messages import Sound
from worker.decode.sound import add_sound
from worker.jobs.annotate import encode

RATE, FPS, LENGTH_S = 48_000, 25, 2.6
AT_S, BEEP_S = (1.0, 2.0), 0.1  # when the picture flashes and there is a tone, and for how long there is
SYNC_S = 0.012  # encoders of sound round where it begins
ANY = 2**30


def tone(length_s: float, at_s: Sequence[float] = AT_S) -> Any:
    times = np.arange(round(length_s * RATE)) / RATE
    loud = np.any([(times >= at) & (times < at + BEEP_S) for at in at_s], axis=0)
    return (0.5 * np.sin(2 * np.pi * 1000 * times) * loud).astype(np.float32)[None]


def film(
    path: Path,
    codec: str = "libx264",
    sounds: Sequence[tuple[str, Any]] = (),
    *,
    late_s: float = 0.0,
    default: int = 0,
    rate: int = RATE,
) -> Path:
    """Black, with white pictures at `AT_S`.  sounds: codec and samples of each track.  late_s: of the first picture."""
    with av.open(str(path), "w") as made:
        pix_fmt, options = CODECS[codec]
        stream: Any = made.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        tracks: list[Any] = [made.add_stream(name, rate=rate, layout="mono") for name, _ in sounds]
        for i, track in enumerate(tracks):
            track.disposition, track.codec_context.bit_rate = int(i == default), 96_000
        for i in range(round(late_s * FPS), round(LENGTH_S * FPS)):
            shade = 255 if any(abs(i / FPS - at) < 0.5 / FPS for at in AT_S) else 0
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade, np.uint8), format="rgb24")
            picture = picture.reformat(format=pix_fmt)
            picture.pts, picture.time_base = i, Fraction(1, FPS)
            made.mux(stream.encode(picture))
        made.mux(stream.encode())
        for track, (_, samples) in zip(tracks, sounds, strict=True):
            step = track.codec_context.frame_size or 1024
            for start in range(0, samples.shape[1], step):
                part = np.ascontiguousarray(samples[:, start : start + step])
                frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
                made.mux(track.encode(frame))
            made.mux(track.encode())
    return path


def sounded(source: Path, start_s: float | None = None, end_s: float | None = None) -> Path | None:
    """The source's pictures, encoded anew, with its sound; None where there is none."""
    pictures, made = source.with_name("pictures.mp4"), source.with_name("made.mp4")
    shown = read(source, Sampling(None, start_s, end_s))
    encode(pictures, ((frame.timestamp_s, frame.image) for frame in shown if frame.image is not None))
    given = Sound(str(source), str(pictures), str(made), ANY, start_s, end_s)
    return made if add_sound(given, lambda: None) else None


def flashes(path: Path) -> list[float]:
    with av.open(str(path)) as made:
        seen = [(frame.time, frame.to_ndarray(format="gray").mean() > 128) for frame in made.decode(video=0)]
    return [float(time or 0) for (time, bright), (_, before) in zip(seen[1:], seen, strict=False) if bright > before]


def heard(path: Path) -> tuple[str, list[float], tuple[float, float]]:
    """The sound's codec, the times of its tones, and when it begins and ends."""
    with av.open(str(path)) as made:
        (track,) = made.streams.audio
        begins, loud = None, []
        for frame in made.decode(track):
            values: Any = frame.to_ndarray()
            level = values[0] / (1.0 if "flt" in frame.format.name else np.iinfo(values.dtype).max)
            begins = frame.time if begins is None else begins
            loud += [float(frame.time or 0) + i / frame.sample_rate for i in np.flatnonzero(level > 0.1)]
            ends = float(frame.time or 0) + frame.samples / frame.sample_rate
        name = track.codec_context.codec.canonical_name
    tones: list[list[float]] = []
    for time in loud:
        if not tones or time - tones[-1][-1] > 0.2:
            tones.append([])
        tones[-1].append(time)
    return name, [times[0] for times in tones], (float(begins or 0), ends)


@pytest.mark.parametrize(
    ("name", "codec", "sound", "kept", "late_s", "sync_s"),
    [
        ("a.mp4", "libx264", "aac", "aac", 0, SYNC_S),
        ("a.mp4", "libx264", "aac", "aac", 0.6, SYNC_S),
        ("a.mp4", "libx264", "eac3", "eac3", 0, SYNC_S),
        ("a.mov", "libx264", "alac", "alac", 0, SYNC_S),
        ("a.mov", "prores_ks", "pcm_s16le", "aac", 0, SYNC_S),
        ("a.webm", "libvpx", "libopus", "opus", 0.6, SYNC_S),
        ("a.mkv", "libx264", "flac", "flac", 0, SYNC_S),
        ("a.mkv", "libx264", "pcm_s16le", "aac", 0.6, SYNC_S),
        ("a.ts", "libx264", "aac", "aac", 0.6, SYNC_S),
        ("a.ts", "libx264", "ac3", "ac3", 0, SYNC_S),
        ("a.ts", "mpeg2video", "mp2", "aac", 0.6, SYNC_S),
        ("a.avi", "mpeg4", "libmp3lame", "mp3", 0, 0.045),  # its packets have no times of showing
        ("a.wmv", "wmv2", "wmav2", "aac", 0, 0.045),
        ("a.flv", "flv", "pcm_mulaw", "aac", 0, SYNC_S),
        ("low.flv", "flv", "libmp3lame", "aac", 0, 0.1),  # at 11 kHz, which an mp4 may not hold
    ],
)
def test_sound_keeps_its_time(
    tmp_path: Path, name: str, codec: str, sound: str, kept: str, late_s: float, sync_s: float
) -> None:
    """Copied where players read it in mp4, else as AAC; tones come with the flashes, also where the video is late."""
    rate = 8000 if sound == "pcm_mulaw" else 11_025 if name == "low.flv" else RATE
    made = sounded(film(tmp_path / name, codec, [(sound, tone(LENGTH_S))], late_s=late_s, rate=rate))
    assert made is not None
    found, tones, _ = heard(made)
    assert found == kept
    assert len(flashes(made)) == len(AT_S)
    assert tones == pytest.approx(flashes(made), abs=sync_s)


@pytest.mark.parametrize(("codec", "sound"), [("libx264", "aac"), ("mpeg2video", "mp2")])
def test_joined_and_wrapped_clocks(tmp_path: Path, codec: str, sound: str) -> None:
    """If a clock restarts, sound and pictures stay synchronous, also if one of them was shorter."""
    parts = [film(tmp_path / f"{i}.ts", codec, [(sound, tone(LENGTH_S - 0.2 * i))]).read_bytes() for i in range(2)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(parts[1] + parts[0] + parts[1])
    made = sounded(joined)
    assert made is not None
    tones = heard(made)[1]
    assert len(tones) == 3 * len(AT_S)
    assert tones == pytest.approx(flashes(made), abs=SYNC_S)


@pytest.mark.parametrize(("name", "sound"), [("a.mp4", "aac"), ("a.mkv", "pcm_s16le")])
def test_a_part_has_its_sound(tmp_path: Path, name: str, sound: str) -> None:
    """With `start_s` and `end_s` there is the sound of these seconds, at its own times."""
    made = sounded(film(tmp_path / name, "libx264", [(sound, tone(LENGTH_S))]), 0.5, 1.5)
    assert made is not None
    _, tones, (begins, ends) = heard(made)
    assert tones == pytest.approx([1.0], abs=SYNC_S)
    assert (begins, ends) == pytest.approx((0.5, 1.5), abs=0.05)
    assert flashes(made) == pytest.approx([1.0], abs=1e-3)


@pytest.mark.parametrize("default", [0, 1])
def test_the_default_of_several_tracks(tmp_path: Path, default: int) -> None:
    """Of two tracks the default one is heard, wherever it is."""
    sounds = [("aac", tone(LENGTH_S)), ("aac", tone(LENGTH_S, (0.5,)))]
    made = sounded(film(tmp_path / "two.mkv", "libx264", sounds, default=default))
    assert made is not None
    assert len(heard(made)[1]) == (2, 1)[default]


def test_sound_that_is_longer_or_shorter_than_the_pictures(tmp_path: Path) -> None:
    """All of it is kept, and nothing is added."""
    for length_s in (5.0, 1.5):
        made = sounded(film(tmp_path / "a.mkv", "libx264", [("pcm_s16le", tone(length_s))]))
        assert made is not None
        assert heard(made)[2] == pytest.approx((0, length_s), abs=0.03)


def test_a_gap_is_silent(tmp_path: Path) -> None:
    """Where sound is missing, what follows still comes in time."""
    source = film(tmp_path / "a.mkv", "libx264", [("pcm_s16le", tone(LENGTH_S))])
    with av.open(str(source)) as given, av.open(str(tmp_path / "gap.mkv"), "w") as cut:
        after = {stream: cut.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            gone = packet.stream.type == "audio" and packet.pts is not None and 1200 <= packet.pts < 1800
            if packet.size and not gone:
                packet.stream = after[packet.stream]
                cut.mux(packet)
    made = sounded(tmp_path / "gap.mkv")
    assert made is not None
    assert heard(made)[1] == pytest.approx(flashes(made), abs=SYNC_S)


def test_without_sound_nothing_is_made(tmp_path: Path) -> None:
    """A silent video stays so, without a file."""
    assert sounded(write(tmp_path / "a.mp4", scene(5))) is None
    assert not (tmp_path / "made.mp4").exists()


def test_a_child_does_it(tmp_path: Path) -> None:
    """In a process of its own the file is the same; what it writes is limited; errors come through."""
    source = film(tmp_path / "a.mkv", "libx264", [("pcm_s16le", tone(LENGTH_S))])
    made = sounded(source)
    assert made is not None
    whole = made.read_bytes()
    process = DecodingProcess()
    try:
        given = Sound(str(source), str(tmp_path / "pictures.mp4"), str(made), ANY, None, None)
        assert add_sound_isolated(given, LIMITS, process=process)
        assert made.read_bytes() == whole
        small = replace(given, made_bytes=1000)
        with pytest.raises(Exception, match="too large"):
            add_sound_isolated(small, LIMITS, process=process)
        assert made.stat().st_size <= 1000
        nothing = tmp_path / "nothing"
        nothing.write_bytes(b"nothing")
        with pytest.raises(UndecodableInputError):
            add_sound_isolated(
                Sound(str(nothing), given.pictures, given.made, ANY, None, None), LIMITS, process=process
            )
    finally:
        process.stop()
