"""Clips of a moving portrait in any codec, container, times and colours that PyAV writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.filter import Graph
from skimage import data

import worker  # noqa: F401  # restricts OpenCV before cv2 is loaded
from tests.scheduling import scheduling_kept
from worker.core.records import DecodedFrame, Image
from worker.decode import DecodeLimits, Sampling
from worker.decode.video import VideoSource

LIMITS = DecodeLimits(max_frames=2000, max_pixels=4_000_000)
RATE = 25
# Of each codec: what makes it quick and nearly lossless here.
CODECS: dict[str, tuple[str, dict[str, str]]] = {
    "libx264": ("yuv420p", {"preset": "ultrafast", "crf": "8"}),
    "libx265": ("yuv420p", {"preset": "ultrafast", "x265-params": "crf=8:log-level=none"}),
    "libvpx": ("yuv420p", {"deadline": "realtime", "cpu-used": "8", "b": "4M"}),
    "libvpx-vp9": ("yuv420p", {"deadline": "realtime", "cpu-used": "8", "b": "4M"}),
    "mjpeg": ("yuvj420p", {"q": "2", "qmin": "1", "qmax": "2"}),
    "mpeg4": ("yuv420p", {"b": "8M"}),
    "mpeg2video": ("yuv420p", {"b": "16M", "maxrate": "16M", "bufsize": "8M"}),
    "mpeg1video": ("yuv420p", {"b": "16M"}),
    "prores_ks": ("yuv422p10le", {}),
    "ffv1": ("yuv420p", {}),
    "dvvideo": ("yuv420p", {}),
    "flv": ("yuv420p", {"b": "8M"}),
    "wmv2": ("yuv420p", {"b": "8M"}),
    "h263": ("yuv420p", {"b": "8M"}),
    "gif": ("rgb8", {}),
}
DV_SIZE = (720, 576)


@cache
def portrait() -> Image:
    return np.asarray(data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]  # it has no annotations


def scene(count: int, size: tuple[int, int] = (192, 144), speed: float = 2.0) -> list[Image]:
    """A camera that pans over a portrait: (H, W, 3) uint8 RGB each.  size: width, height."""
    width, height = size
    pictures = []
    for i in range(count):
        place = np.array([[width / 340, 0, -(20 + speed * i) * width / 340], [0, height / 300, -20 * height / 300]])
        moved = cv2.warpAffine(portrait(), place, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        pictures.append(np.asarray(moved, np.uint8))
    return pictures


def write(
    path: Path,
    pictures: Iterable[Image],
    codec: str = "libx264",
    *,
    rate: int = RATE,
    times_ms: Sequence[int] | None = None,
    pix_fmt: str | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    format: str | None = None,
    prepare: Callable[[Any], None] = lambda stream: None,
    change: Callable[[av.VideoFrame], av.VideoFrame] = lambda frame: frame,
    sound_s: float | None = None,
) -> Path:
    """Write a clip.  prepare: is shown the stream first.  change: makes what is encoded of a frame.

    sound_s: so much silence beside the pictures, from 0 on.
    """
    usual_format, usual_options = CODECS.get(codec, ("yuv420p", {}))
    with scheduling_kept(), av.open(str(path), "w", format=format, options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate, options={**usual_options, **(options or {})})
        sound: Any = None if sound_s is None else container.add_stream("aac", rate=48_000)
        stream.pix_fmt = pix_fmt or usual_format
        opened = False
        base = Fraction(1, 1000) if times_ms is not None else Fraction(1, rate)
        for i, picture in enumerate(pictures):
            if not opened:
                stream.height, stream.width = picture.shape[:2]
                if times_ms is not None:
                    stream.codec_context.time_base = base
                prepare(stream)
                opened = True
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt)
            frame = change(frame)
            frame.pts, frame.time_base = (i if times_ms is None else times_ms[i]), base
            container.mux(stream.encode(frame))
            if sound is not None and i == 0:
                container.mux(list(silence(sound, sound_s or 0)))
        container.mux(stream.encode())
    return path


def silence(stream: Any, seconds: float) -> Iterable[Any]:
    for i in range(int(seconds * 48_000 / 1024)):
        quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        quiet.sample_rate, quiet.pts, quiet.time_base = 48_000, i * 1024, Fraction(1, 48_000)
        yield from stream.encode(quiet)
    yield from stream.encode()


def fields_first(which: str = "tff") -> Callable[[av.VideoFrame], av.VideoFrame]:
    """Has a frame say that it is interlaced."""
    graphs: dict[tuple[int, int, str], Graph] = {}

    def change(frame: av.VideoFrame) -> av.VideoFrame:
        key = frame.width, frame.height, frame.format.name
        if key not in graphs:
            graph = graphs[key] = Graph()
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, RATE)
            )
            graph.link_nodes(source, graph.add("setfield", which), graph.add("buffersink")).configure()
        graphs[key].vpush(frame)
        return graphs[key].vpull()

    return change


def remux(source: Path, path: Path, edit: Callable[[int, Any], Any] = lambda n, packet: packet, **more: Any) -> Path:
    """Copy a clip's packets.  edit: is given each with its number; None leaves it out."""
    with av.open(str(source)) as given, av.open(str(path), "w", **more) as made:
        before = given.streams.video[0]
        after = made.add_stream_from_template(before)
        for n, packet in enumerate(packet for packet in given.demux(before) if packet.size):
            edited = edit(n, packet)
            if edited is not None:
                edited.stream = after
                made.mux(edited)
    return path


def read(path: Path, sampling: Sampling | None = None, limits: DecodeLimits = LIMITS) -> list[DecodedFrame]:
    return list(VideoSource(path, limits, sampling).frames())


def images(frames: Iterable[DecodedFrame]) -> list[Image]:
    """The frames' pictures, all of which have to be there."""
    found = [frame.image for frame in frames]
    assert all(image is not None for image in found)
    return [image for image in found if image is not None]


def times(frames: Iterable[DecodedFrame]) -> list[float]:
    return [frame.timestamp_s for frame in frames]


def difference(a: Image, b: Image) -> float:
    """Mean absolute difference, of 255."""
    assert a.shape == b.shape
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())
