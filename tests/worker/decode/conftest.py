"""Clips and archives for the tests of decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

MakeClip = Callable[..., Path]


@pytest.fixture
def make_clip(tmp_path: Path) -> MakeClip:
    """Writes a clip of noise: `make_clip(frames, side)`."""

    def make(frames: int = 20, side: int = 64, name: str = "clip.mp4", times_ms: Sequence[int] | None = None) -> Path:
        rng = np.random.default_rng(0)
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("mpeg4", rate=25)
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
            for i in range(frames):
                picture = rng.integers(0, 256, (side, side, 3), np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = (40 * i if times_ms is None else times_ms[i]), Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return make
