"""Annotated videos and previews of kept inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from app.contract.colours import colours, rgb
from app.contract.frames import Frame
from worker.core.records import DecodedFrame, Image

TIME_BASE = Fraction(1, 90_000)  # seconds a tick; video's usual clock, exact for all usual rates
NOMINAL_FPS = 30  # used by the encoder's rate control only: every frame has its own timestamp
# Codecs that current browsers play in mp4, best first; some builds of FFmpeg lack the first.
CODECS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"preset": "veryfast", "crf": "23"}),
    ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "7", "crf": "33", "b": "0", "row-mt": "1"}),
)
HOLD_S = 1.0  # maximum time for which unlabelled frames show the faces of the previous labelled one
PREVIEW_PX = 720  # maximum shorter side of a preview
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class NothingToDrawError(Exception):
    """The source has no decodable frame, or no face."""


def encode(path: Path, pictures: Iterable[tuple[float, Image]]) -> int:
    """Write an mp4 to `path` and return its number of frames.

    pictures: times in seconds with (H, W, 3) uint8 RGB; the first one sets the video's size.
    Raises: NothingToDrawError.
    """
    codec, options = next((name, options) for name, options in CODECS if name in av.codecs_available)
    written = 0
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream: VideoStream | None = None
        last_tick = -1
        for timestamp_s, image in pictures:
            height, width = (size - size % 2 for size in image.shape[:2])  # 4:2:0 needs even sizes
            if stream is None:
                stream = cast(VideoStream, container.add_stream(codec, rate=NOMINAL_FPS, options=options))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.time_base = TIME_BASE
                stream.time_base = TIME_BASE
            picture = image[: stream.height, : stream.width]
            whole = np.ascontiguousarray(_fitted(picture, stream.width, stream.height))
            out = av.VideoFrame.from_ndarray(whole, format="rgb24")
            last_tick = max(round(timestamp_s / TIME_BASE), last_tick + 1)
            out.pts, out.time_base = last_tick, TIME_BASE
            container.mux(stream.encode(out))
            written += 1
        if stream is None:
            raise NothingToDrawError("the input has no frame that can be drawn on")
        container.mux(stream.encode())
    return written


def drawn(
    source: Iterable[DecodedFrame], records: Iterable[Frame], labels: Sequence[str]
) -> Iterator[tuple[float, Image]]:
    """Every readable frame at its time, with its boxes and labels.  records: labelled frames, in order."""
    for frame, faces in annotate(source, records):
        if frame.image is not None:
            yield frame.timestamp_s, draw(frame.image, faces, labels)


def _fitted(picture: Image, width: int, height: int) -> Image:
    """The whole picture in the middle of one of this size, black beside it: pictures of an album differ."""
    if picture.shape[:2] == (height, width):
        return picture
    scale = min(width / picture.shape[1], height / picture.shape[0])
    inner = _sized(picture, max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1))
    top, left = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
    whole = np.zeros((height, width, 3), np.uint8)
    whole[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return whole


def _sized(picture: Image, width: int, height: int) -> Image:
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def shrunk(source: Iterable[DecodedFrame]) -> Iterator[tuple[float, Image]]:
    """Every readable frame of the source at its time, at most `PREVIEW_PX` on its shorter side."""
    for frame in source:
        if frame.image is None:
            continue
        height, width = frame.image.shape[:2]
        scale = PREVIEW_PX / max(min(height, width), PREVIEW_PX)
        yield frame.timestamp_s, _sized(frame.image, max(round(width * scale), 2), max(round(height * scale), 2))


def annotate(source: Iterable[DecodedFrame], records: Iterable[Frame]) -> Iterator[tuple[DecodedFrame, Frame | None]]:
    """Each source frame with its record, or the previous record if it was not sampled, for at most `HOLD_S`."""
    coming = iter(records)
    following = next(coming, None)
    shown: Frame | None = None
    for frame in source:
        while following is not None and following.frame_index <= frame.frame_index:
            shown, following = following, next(coming, None)
        held = shown is not None and frame.timestamp_s - shown.timestamp_s <= HOLD_S
        yield frame, shown if held else None


def draw(image: Image, frame: Frame | None, labels: Sequence[str]) -> Image:
    """A copy of the image (H, W, 3) uint8 RGB with the frame's boxes and labels."""
    picture = image.copy()
    if frame is None:
        return picture
    by_label = colours(labels)
    scale = max(image.shape[0] / 720, 0.5)
    line = max(round(2 * scale), 1)
    for face in frame.faces:
        best = max(range(len(labels)), key=face.scores.__getitem__)
        colour = rgb(by_label[labels[best]])
        x, y, width, height = (round(value) for value in face.bbox)
        cv2.rectangle(picture, (x, y), (x + width, y + height), colour, line)
        text = f"{face.track_id} {labels[best]} {face.scores[best]:.2f}"
        (text_width, text_height), base = cv2.getTextSize(text, _FONT, 0.6 * scale, line)
        bottom = y if y >= text_height + base else y + height + text_height + base
        cv2.rectangle(picture, (x, bottom - text_height - base), (x + text_width, bottom), colour, cv2.FILLED)
        dark = sum(colour) < 3 * 128
        ink = (255, 255, 255) if dark else (0, 0, 0)
        cv2.putText(picture, text, (x, bottom - base), _FONT, 0.6 * scale, ink, max(line // 2, 1), cv2.LINE_AA)
    return picture
