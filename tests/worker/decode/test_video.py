"""Videos: the container's own times, the frames that were asked for, and nothing but videos."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import worker  # noqa: F401  # restricts OpenCV's FFmpeg before cv2 is loaded
from worker.core.records import DecodedFrame
from worker.decode import DecodeLimits, LimitExceededError, Sampling, UndecodableInputError
from worker.decode.video import VideoSource

LIMITS = DecodeLimits(max_frames=1000, max_pixels=1_000_000)
SIDE = 64
STEP = 8  # grey value of frame i is i * STEP, so that frames are known by their pictures
UNEVEN_MS = [0, 40, 50, 200, 240, 500, 533, 566, 1000, 1700, 1733]


def write_clip(path: Path, times_ms: Sequence[int], codec: str = "mpeg4", side: int = SIDE, **options: str) -> Path:
    """A clip with frames at these times."""
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = 4
        stream.codec_context.max_b_frames = 0
        stream.codec_context.bit_rate = 4_000_000
        for i, time_ms in enumerate(times_ms):
            picture = np.full((side, side, 3), min(i * STEP, 255), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def even(count: int, fps: int = 25) -> list[int]:
    return [round(1000 * i / fps) for i in range(count)]


def read(path: Path, sampling: Sampling | None = None, limits: DecodeLimits = LIMITS) -> list[DecodedFrame]:
    return list(VideoSource(path, limits, sampling).frames())


def shown(frame: DecodedFrame) -> int:
    """Which frame of the clip the picture is."""
    assert frame.image is not None
    return round(float(frame.image.mean()) / STEP)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.avi", "a.ts"])
def test_containers(tmp_path: Path, name: str) -> None:
    """Every container gives every frame once, in order, at increasing times a frame apart."""
    source = VideoSource(write_clip(tmp_path / name, even(20)), LIMITS)
    frames = list(source.frames())
    assert [f.frame_index for f in frames] == [shown(f) for f in frames] == list(range(20))
    np.testing.assert_allclose(np.diff([f.timestamp_s for f in frames]), 0.04, atol=1e-3)
    assert (source.info.width, source.info.height, source.decoded) == (SIDE, SIDE, 20)
    if not name.endswith(".avi"):  # which has its time base for a rate
        assert source.info.fps == pytest.approx(25)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_variable_frame_rate(tmp_path: Path, name: str) -> None:
    """Uneven times come as the container has them, to the millisecond."""
    frames = read(write_clip(tmp_path / name, UNEVEN_MS))
    np.testing.assert_allclose([f.timestamp_s for f in frames], np.array(UNEVEN_MS) / 1000, atol=1.1e-3)
    assert [shown(f) for f in frames] == list(range(len(UNEVEN_MS)))


def test_animated_gif(tmp_path: Path) -> None:
    """A GIF is a video."""
    path = tmp_path / "a.gif"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("gif", rate=10)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "rgb8"
        for i in range(6):
            picture = np.full((SIDE, SIDE, 3), 255 if i % 2 else 0, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="rgb8")))
        container.mux(stream.encode())
    frames = read(path)
    assert [f.image is not None and f.image.mean() > 127 for f in frames] == [False, True] * 3
    np.testing.assert_allclose(np.diff([f.timestamp_s for f in frames]), 0.1, atol=0.011)


def test_colours_are_rgb(tmp_path: Path) -> None:
    """A red clip gives red pictures."""
    path = tmp_path / "red.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        picture = np.zeros((SIDE, SIDE, 3), np.uint8)
        picture[..., 0] = 255
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    (frame,) = read(path)
    assert frame.image is not None
    red, green, blue = frame.image.reshape(-1, 3).mean(axis=0)
    assert red > 220
    assert max(green, blue) < 35


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(sample_fps=5), [0, 5, 10, 15, 20, 25]),
        (Sampling(sample_fps=25), list(range(30))),
        (Sampling(sample_fps=1000), list(range(30))),
        (Sampling(sample_fps=10), [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28]),
        (Sampling(start_s=0.4), list(range(10, 30))),
        (Sampling(end_s=0.4), list(range(10))),
        (Sampling(sample_fps=5, start_s=0.2, end_s=0.8), [5, 10, 15]),
        (Sampling(start_s=50), []),
    ],
)
def test_sampling_picks_frames_by_their_times(tmp_path: Path, sampling: Sampling, expected: list[int]) -> None:
    """Rate, start (included) and end (excluded) choose frames; indices and pictures are those of the source."""
    frames = read(write_clip(tmp_path / "a.mp4", even(30)), sampling)
    assert [f.frame_index for f in frames] == expected
    assert [shown(f) for f in frames] == expected


def test_sampling_of_uneven_times(tmp_path: Path) -> None:
    """After a pause the next frame is due at once, and the rate is never exceeded."""
    frames = read(write_clip(tmp_path / "a.mkv", UNEVEN_MS), Sampling(sample_fps=5))
    assert [round(1000 * f.timestamp_s) for f in frames] == [0, 200, 500, 1000, 1700]


def test_too_many_frames(tmp_path: Path) -> None:
    """A clip with one frame more than allowed is given up there; with just as many it is fine."""
    path = write_clip(tmp_path / "a.mp4", even(10))
    assert len(read(path, limits=DecodeLimits(10, 1_000_000))) == 10
    with pytest.raises(LimitExceededError, match="more than 9 frames"):
        read(path, limits=DecodeLimits(9, 1_000_000))
    with pytest.raises(LimitExceededError, match="more than 9 frames"):  # also where few are sampled
        read(path, Sampling(sample_fps=1), DecodeLimits(9, 1_000_000))


def test_too_many_pixels(tmp_path: Path) -> None:
    """A clip with larger frames than allowed is refused before one is decoded."""
    path = write_clip(tmp_path / "a.mp4", even(3))
    with pytest.raises(LimitExceededError, match="64 x 64"):
        VideoSource(path, DecodeLimits(10, SIDE * SIDE - 1))


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "list.ffconcat", "list.mpd", "list.svg"])
def test_playlists_and_scripts_are_refused(tmp_path: Path, name: str) -> None:
    """Text that makes FFmpeg read another file is no video, whatever its name; the file it names can be read."""
    clip = write_clip(tmp_path / "a.ts", even(10))
    assert len(read(clip)) == 10
    texts = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{clip}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{clip}'\n",
        f"ffconcat version 1.0\nfile {clip.name}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{clip}"/></svg>',
    )
    for text in texts:
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(UndecodableInputError):
            read(path)


@pytest.mark.parametrize("data", [b"", b"\0" * 1000, b"\x00\x00\x00\x18ftypisom" + bytes(500), b"RIFF\0\0\0\0AVI LIST"])
def test_what_is_no_video_is_refused(tmp_path: Path, data: bytes) -> None:
    """Empty files and files that only start like a video say what to send instead."""
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    with pytest.raises(UndecodableInputError, match="mp4"):
        read(path)


def test_a_still_image_is_no_video(tmp_path: Path) -> None:
    """Only the containers on the list are opened, so that each kind of input has one decoder."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(UndecodableInputError):
        read(path)


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    """A container without a video stream has nothing to label."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=48_000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 48_000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(UndecodableInputError):
        read(path)


def test_a_clip_that_was_cut_off(tmp_path: Path) -> None:
    """With its index at the front, the existing frames are read, and a warning states the claimed number."""
    path = write_clip(tmp_path / "a.mp4", even(60), movflags="+faststart")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - (len(data) - data.index(b"mdat")) // 2])
    source = VideoSource(path, LIMITS)
    frames = list(source.frames())
    assert [f.frame_index for f in frames] == list(range(len(frames)))
    assert 5 < len(frames) < 55
    assert source.decoded == len(frames)
    assert source.warnings == [f"the video ends early: {len(frames)} frames could be decoded, its container claims 60"]


def test_a_clip_without_its_index_is_refused(tmp_path: Path) -> None:
    """With its index at the end, a cut-off mp4 cannot be decoded."""
    path = write_clip(tmp_path / "a.mp4", even(60))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UndecodableInputError):
        read(path)


def test_a_whole_clip_has_no_warning(tmp_path: Path) -> None:
    """Nothing is odd about a whole clip, nor about one of which the end was not asked for."""
    path = write_clip(tmp_path / "a.mp4", even(60))
    for sampling in (Sampling(), Sampling(end_s=0.5)):
        source = VideoSource(path, LIMITS, sampling)
        list(source.frames())
        assert source.warnings == []
