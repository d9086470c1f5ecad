"""Deinterlacing by FFmpeg's `bwdif`, one picture for each frame, from the first interlaced frame on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

import av
from av.filter import Graph
from av.video.frame import VideoFrame

Item = TypeVar("Item")

# One picture for each frame; frames marked progressive pass unchanged.
OPTIONS = "mode=send_frame:parity=auto:deint=interlaced"


class Deinterlacer:
    """Deinterlaces frames, in order, one for one."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._shape: tuple[int, int, str] | None = None

    def run(self, frames: Iterable[tuple[Item, VideoFrame]]) -> Iterator[tuple[Item, VideoFrame]]:
        """Frames with their items; output may be one frame late."""
        waiting: deque[tuple[Item, VideoFrame]] = deque()
        for item, frame in frames:
            if self._graph is not None and self._shape != _shape(frame):
                yield from self._drain(waiting)
            if self._graph is None and not (frame.interlaced_frame and self._open(frame)):
                yield item, frame
                continue
            waiting.append((item, frame))
            yield from self._through(frame, waiting)
        yield from self._drain(waiting)

    def _open(self, frame: VideoFrame) -> bool:
        """Build the filter graph; False if it does not support the format."""
        graph = Graph()
        graph.threads = 1
        try:
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1)
            )
            graph.link_nodes(source, graph.add("bwdif", OPTIONS), graph.add("buffersink")).configure()
        except (av.FFmpegError, ValueError):
            return False
        self._graph, self._shape = graph, _shape(frame)
        return True

    def _through(
        self, frame: VideoFrame | None, waiting: deque[tuple[Item, VideoFrame]]
    ) -> Iterator[tuple[Item, VideoFrame]]:
        graph = self._graph
        if graph is None:
            return
        try:
            graph.vpush(frame)
            while True:
                whole = graph.vpull()
                if waiting:
                    yield waiting.popleft()[0], whole
        except MemoryError:
            raise
        except av.FFmpegError:  # it needs the next frame, or has ended
            return

    def _drain(self, waiting: deque[tuple[Item, VideoFrame]]) -> Iterator[tuple[Item, VideoFrame]]:
        yield from self._through(None, waiting)
        self._graph = None
        while waiting:  # frames that the filter dropped
            yield waiting.popleft()


def _shape(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
