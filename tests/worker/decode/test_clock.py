"""The time of a picture: the container's clock, as in a player, despite other claims of the container."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.worker.decode.scenes import RATE, difference, images, read, remux, scene, times, write
from worker.decode import DecodeLimits
from worker.decode.times import Increasing
from worker.decode.video import VideoSource

MS = 1.1e-3
REORDERED = {"preset": "ultrafast", "bf": "2", "b-adapt": "0", "crf": "10"}
EVEN = [40 * i for i in range(30)]
LIMITS = DecodeLimits(2000, 1_000_000)


def odd(path: Path) -> list[str]:
    source = VideoSource(path, LIMITS)
    list(source.frames())
    return source.warnings


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.webm", "libvpx"),
        pytest.param("a.mov", "libx264", marks=pytest.mark.long),
        pytest.param("a.mkv", "libx264", marks=pytest.mark.long),
    ],
)
def test_pictures_that_begin_after_the_sound(tmp_path: Path, name: str, codec: str) -> None:
    """A camera that comes on 2 s late is 2 s late; the clip is whole, so nothing ends early."""
    pictures = scene(30)
    late = [2000 + ms for ms in EVEN]
    sound = None if name == "a.webm" else 4.0  # aac is not for WebM
    path = write(tmp_path / name, pictures, codec, times_ms=late, sound_s=sound)
    source = VideoSource(path, LIMITS)
    frames = list(source.frames())
    np.testing.assert_allclose(times(frames), np.array(late) / 1000, atol=MS)
    assert source.warnings == []
    assert source.info.duration_s == pytest.approx(3.2, abs=0.05)


def test_pictures_that_begin_after_the_sound_of_a_broadcast(tmp_path: Path) -> None:
    """Containers that browsers do not play count from their start, which is the sound's."""
    late = [2000 + ms for ms in EVEN]
    frames = read(write(tmp_path / "a.ts", scene(30), times_ms=late, sound_s=4.0))
    np.testing.assert_allclose(times(frames), np.array(late) / 1000, atol=0.025)


@pytest.mark.parametrize("name", ["a.ts", "a.flv", "a.avi", pytest.param("a.mpg", marks=pytest.mark.long)])
def test_other_containers_start_at_0(tmp_path: Path, name: str) -> None:
    """What browsers do not play starts at 0."""
    codec = "mpeg4" if name == "a.avi" else "mpeg2video" if name == "a.mpg" else "libx264"
    frames = read(write(tmp_path / name, scene(30), codec))
    np.testing.assert_allclose(times(frames), np.arange(30) / RATE, atol=MS)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_a_container_without_times(tmp_path: Path, codec: str) -> None:
    """AVI tells the order of decoding alone; reordered pictures are shown in theirs, a frame apart, from 0 on."""
    options = {"bf": "2"} if codec == "mpeg4" else REORDERED
    path = write(tmp_path / "a.avi", scene(30), codec, options=options)
    np.testing.assert_allclose(times(read(path)), np.arange(30) / RATE, atol=MS)
    assert odd(path) == []


def test_short_delays_of_a_gif(tmp_path: Path) -> None:
    """Up to 10 ms they count as a tenth of a second, as in browsers; 20 ms are what they are."""
    path = tmp_path / "a.gif"
    first, *others = [PIL.Image.fromarray(picture) for picture in scene(5, speed=20)]
    first.save(path, save_all=True, append_images=others, duration=500)
    parts = path.read_bytes().split(b"\x21\xf9\x04")  # of each picture: flags, and its delay in hundredths of a second
    assert len(parts) == 6
    for i, hundredths in enumerate([0, 1, 2, 20, 5], start=1):
        parts[i] = parts[i][:1] + struct.pack("<H", hundredths) + parts[i][3:]
    path.write_bytes(b"\x21\xf9\x04".join(parts))
    assert times(read(path)) == pytest.approx([0, 0.1, 0.2, 0.22, 0.42])


def test_reordered_pictures_without_an_edit_list(tmp_path: Path) -> None:
    """Two B-frames and no edit list: the first picture is shown at 0.08 s, as in a browser."""
    path = write(tmp_path / "a.mp4", scene(30), options=REORDERED, container_options={"use_editlist": "0"})
    np.testing.assert_allclose(times(read(path)), 0.08 + np.arange(30) / RATE, atol=MS)


def test_an_edit_list_is_applied(tmp_path: Path) -> None:
    """With one, the same pictures start at 0."""
    path = write(tmp_path / "a.mp4", scene(30), options=REORDERED)
    np.testing.assert_allclose(times(read(path)), np.arange(30) / RATE, atol=MS)


def test_a_clip_cut_without_encoding_it_again(tmp_path: Path) -> None:
    """Pictures before the cut, which only others need, are hidden, and are not counted."""
    whole = write(tmp_path / "whole.mp4", scene(60), options={"g": "25", "bf": "0"})

    def cut(n: int, packet: Any) -> Any:
        if n < 25:
            return None
        packet.pts -= packet.stream.duration * 40 // 60
        packet.dts -= packet.stream.duration * 40 // 60
        return packet

    path = remux(whole, tmp_path / "cut.mp4", cut, options={"avoid_negative_ts": "disabled"})
    source = VideoSource(path, LIMITS)
    frames = list(source.frames())
    assert len(frames) == 20
    assert source.info.frame_count == 20
    assert source.warnings == []
    np.testing.assert_allclose(times(frames), np.arange(20) / RATE, atol=MS)


@pytest.mark.parametrize("gap_s", [1, 10, 100])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_slides_with_sound(tmp_path: Path, name: str, gap_s: int) -> None:
    """Pictures far apart beside dense sound: every one of them, at its time."""
    count = 3 if gap_s == 100 else 8
    shown = [1000 * gap_s * i for i in range(count)]
    path = write(tmp_path / name, scene(count), times_ms=shown, sound_s=gap_s * count, options={"tune": "zerolatency"})
    frames = read(path)
    assert len(frames) == count
    np.testing.assert_allclose(np.diff(times(frames)), gap_s, atol=MS)
    assert odd(path) == []


@pytest.mark.parametrize("second_s", [0.0, 7200.0, 95_000.0])
def test_joined_recordings_go_on(tmp_path: Path, second_s: float) -> None:
    """Two concatenated recordings with unrelated clocks: the time continues where the first ended."""
    pictures = scene(30)
    first = write(tmp_path / "a.ts", pictures, "mpeg2video", container_options={"output_ts_offset": "4000"})
    offset = {"output_ts_offset": str(second_s)}
    second = write(tmp_path / "b.ts", pictures, "mpeg2video", container_options=offset)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    source = VideoSource(joined, LIMITS)
    frames = list(source.frames())
    assert 58 <= len(frames) <= 60
    steps = np.diff(times(frames))
    assert steps.min() > 0.01
    assert steps.max() < 0.13
    assert source.info.duration_s == pytest.approx(2.4, abs=0.1)
    assert not any("early" in warning for warning in source.warnings)


def test_a_clock_that_wraps(tmp_path: Path) -> None:
    """MPEG's clock starts again after 26.5 hours; the pictures do not notice."""
    wrap_s = 2**33 / 90_000
    path = write(
        tmp_path / "a.ts", scene(60), "mpeg2video", container_options={"output_ts_offset": f"{wrap_s - 1.0:.6f}"}
    )
    np.testing.assert_allclose(times(read(path)), np.arange(60) / RATE, atol=MS)


def test_a_recording_that_starts_between_keyframes(tmp_path: Path) -> None:
    """From the first picture that can be decoded on, none of the grey before."""
    for codec in ("libx264", "mpeg2video"):
        pictures = scene(75)
        whole = write(tmp_path / f"{codec}.ts", pictures, codec, options={"g": "25", "bf": "0", "sc_threshold": "0"})
        cut = remux(whole, tmp_path / f"{codec}_cut.ts", lambda n, packet: None if n < 12 else packet)
        found = images(read(cut))
        assert 48 <= len(found) <= 52
        assert difference(found[0], pictures[75 - len(found)]) < 6


def run(said: list[float | None], period_s: float = 0.04) -> list[float]:
    return [time for time, _ in Increasing[int](period_s).run((time, i) for i, time in enumerate(said))]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ([0.0, 0.04, 0.04, 0.08], [0.0, 0.04, 0.06, 0.08]),
        ([0.0, 0.04, 0.02, 0.12], [0.0, 0.04, 0.08, 0.12]),
        ([0.0, None, 0.08], [0.0, 0.04, 0.08]),
        ([None, None, 0.08], [0.0, 0.04, 0.08]),
        ([0.0, 5.0, 0.08, 5.04], [0.0, 5.0, 5.02, 5.04]),
        ([None] * 4, [0.0, 0.04, 0.08, 0.12]),
        ([0.0] * 5, [0.0, 0.04, 0.08, 0.12, 0.16]),
        ([-5.0, -0.04, None, None, 0.16, 0.12], [0.0, 0.04, 0.08, 0.12, 0.16, 0.2]),
    ],
)
def test_times_that_cannot_be(said: list[float | None], shown: list[float]) -> None:
    """Missing, equal and falling times are put between their neighbours, and move none of them."""
    assert run(said) == pytest.approx(shown)
