"""Which track is the film: the default and largest one, never a cover."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from tests.worker.decode.scenes import CODECS, difference, images, read, scene, silence, write
from worker.core.records import Image
from worker.decode import DecodeLimits, UndecodableInputError
from worker.decode.video import VideoSource

LIMITS = DecodeLimits(2000, 1_000_000)
CLOSE = 4.0


def several(path: Path, tracks: list[tuple[list[Image], Any]]) -> Path:
    """A clip with several video tracks: pictures and disposition of each."""
    _, options = CODECS["libx264"]
    with av.open(str(path), "w") as container:
        streams = []
        for pictures, disposition in tracks:
            stream: Any = container.add_stream("libx264", rate=25, options=options)
            stream.pix_fmt = "yuv420p"
            stream.height, stream.width = pictures[0].shape[:2]
            stream.disposition = disposition
            streams.append(stream)
        for stream, (pictures, _) in zip(streams, tracks, strict=True):
            for i, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = i, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return path


def with_cover(clip: Path, path: Path, *, first: bool) -> Path:
    """The clip with a cover picture, in front of its tracks if wanted."""
    ok, cover = cv2.imencode(".jpg", np.full((480, 640, 3), 200, np.uint8))
    assert ok
    with av.open(str(clip)) as given, av.open(str(path), "w", options={"movflags": "faststart"}) as made:
        film = given.streams.video[0]
        copied = made.add_stream_from_template(film)
        picture: Any = made.add_stream("mjpeg", rate=1)
        picture.width, picture.height, picture.pix_fmt = 640, 480, "yuvj420p"
        picture.disposition = Disposition.attached_pic
        made.start_encoding()
        attached = av.Packet(cover.tobytes())
        attached.stream, attached.pts, attached.dts, attached.time_base = picture, 0, 0, Fraction(1, 25)
        made.mux(attached)
        for packet in given.demux(film):
            if packet.size:
                packet.stream = copied
                made.mux(packet)
    if first:
        _put_cover_first(path)
    return path


def _put_cover_first(path: Path) -> None:
    """Move the box with the cover (moov: udta) before the tracks; sizes and offsets stay."""
    data = path.read_bytes()

    def boxes(start: int, end: int) -> list[tuple[bytes, int, int]]:
        found = []
        while start < end:
            size, kind = struct.unpack_from(">I4s", data, start)
            found.append((kind, start, size))
            start += size
        return found

    _, start, size = next(box for box in boxes(0, len(data)) if box[0] == b"moov")
    parts = [(kind, data[at : at + length]) for kind, at, length in boxes(start + 8, start + size)]
    parts.sort(key=lambda part: {b"mvhd": 0, b"udta": 1}.get(part[0], 2))
    path.write_bytes(data[: start + 8] + b"".join(part for _, part in parts) + data[start + size :])


@pytest.mark.parametrize("first", [False, True], ids=["cover last", "cover first"])
def test_a_cover_is_no_film(tmp_path: Path, first: bool) -> None:
    """A larger cover picture, before or behind the tracks, is passed over."""
    pictures = scene(10)
    path = with_cover(write(tmp_path / "film.mp4", pictures), tmp_path / "a.mp4", first=first)
    source = VideoSource(path, LIMITS)
    found = images(source.frames())
    assert (source.info.width, source.info.height, len(found), source.warnings) == (192, 144, 10, [])
    assert difference(found[0], pictures[0]) < CLOSE


def test_a_cover_alone_is_no_video(tmp_path: Path) -> None:
    """A song with a cover is not a film of one picture."""
    ok, cover = cv2.imencode(".jpg", np.full((480, 640, 3), 200, np.uint8))
    assert ok
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as made:
        sound: Any = made.add_stream("aac", rate=48_000)
        picture: Any = made.add_stream("mjpeg", rate=1)
        picture.width, picture.height, picture.pix_fmt = 640, 480, "yuvj420p"
        picture.disposition = Disposition.attached_pic
        made.start_encoding()
        attached = av.Packet(cover.tobytes())
        attached.stream, attached.pts, attached.dts, attached.time_base = picture, 0, 0, Fraction(1, 25)
        made.mux(attached)
        made.mux(list(silence(sound, 1)))
    with pytest.raises(UndecodableInputError):
        read(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", pytest.param("mov", marks=pytest.mark.long)])
def test_the_largest_of_several(tmp_path: Path, suffix: str) -> None:
    """A preview track before the film is passed over."""
    small, large = scene(10, (64, 48)), scene(10)
    path = several(tmp_path / f"a.{suffix}", [(small, Disposition.default), (large, Disposition.default)])
    found = images(read(path))
    assert len(found) == 10
    assert difference(found[3], large[3]) < CLOSE


def test_the_default_of_several(tmp_path: Path) -> None:
    """The track that the file names as its default comes before a larger one."""
    small, large = scene(10, (96, 72)), scene(10)
    path = several(tmp_path / "a.mkv", [(large, 0), (small, Disposition.default)])
    assert difference(images(read(path))[3], small[3]) < CLOSE


def test_a_codec_that_is_not_decoded_is_named(tmp_path: Path) -> None:
    """Codecs that no camera, phone, browser or editor writes are refused by name."""
    path = write(tmp_path / "a.avi", scene(3), "zmbv", pix_fmt="bgr0")
    with pytest.raises(UndecodableInputError, match="zmbv"):
        read(path)


def beside(path: Path, pictures: list[Image], kind: str) -> Path:
    """A clip with a track of that kind in front, or of time codes behind its pictures."""
    _, options = CODECS["libx264"]
    with av.open(str(path), "w") as container:
        other: Any = None
        if kind != "timecode":
            other = container.add_data_stream(kind) if kind == "klv" else container.add_mux_stream(kind)
            other.time_base = Fraction(1, 1000)
        stream: Any = container.add_stream("libx264", rate=25, options=options)
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = pictures[0].shape[:2]
        if other is None:
            stream.metadata["timecode"] = "10:00:00:00"
        container.start_encoding()
        for i in range(4 if other is not None else 0):
            packet = av.Packet({"mov_text": b"\0\2hi", "klv": b"\x06\x0e\x2b\x34" + bytes(20)}.get(kind, b"hi"))
            packet.stream, packet.time_base = other, Fraction(1, 1000)
            packet.pts = packet.dts = 100 * i
            packet.duration = 90
            container.mux(packet)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.mov", "timecode"), ("a.mp4", "mov_text"), ("a.mkv", "subrip"), ("a.mkv", "webvtt"), ("a.ts", "klv")],
)
def test_tracks_without_pictures(tmp_path: Path, name: str, kind: str) -> None:
    """Time codes, subtitles and data are no film, wherever they lie, and move neither its times nor its count."""
    pictures = scene(10)
    path = beside(tmp_path / name, pictures, kind)
    with av.open(str(path)) as container:
        assert sorted(stream.type for stream in container.streams) in (["data", "video"], ["subtitle", "video"])
    source = VideoSource(path, LIMITS)
    frames = list(source.frames())
    assert [frame.timestamp_s for frame in frames] == pytest.approx([i / 25 for i in range(10)], abs=1e-3)
    assert (source.info.frame_count, source.warnings) == (10, [])
    assert difference(images(frames)[3], pictures[3]) < CLOSE
