"""Videos whose times or order trap players: one row a container, written on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.worker.decode.scenes import write
from worker.core.records import Image

LEVEL, STEP = 40, 8  # grey of the first picture, and how much brighter the next one is
COUNT = 20
UNEVEN_MS = [0, 40, 80, 200, 215, 230, 700, 733, 766, 800, 1000, 1040, 1080, 1500, 1516, 1533, 1550, 2000, 2040, 2080]
# Chromium shows pictures of WebM that follow each other faster than its guess of their rate one later than asked for.
UNEVEN_WEBM_MS = [40 * i + (i > 2) * 80 + (i > 5) * 400 + (i > 9) * 150 for i in range(COUNT)]
LATE_MS = [2000 + 40 * i for i in range(COUNT)]
REORDERED = {"preset": "ultrafast", "bf": "2", "b-adapt": "0", "crf": "10"}
NO_EDIT_LIST = {"options": REORDERED, "container_options": {"use_editlist": "0"}}

# By file name: codec, times in milliseconds, and what else `write` is given.
CONTAINERS: dict[str, tuple[str, list[int] | None, dict[str, Any]]] = {
    "plain.mp4": ("libx264", None, {}),
    "late.mp4": ("libx264", LATE_MS, {"sound_s": 4.0}),
    "late.mov": ("libx264", LATE_MS, {"sound_s": 4.0}),
    "uneven.mp4": ("libx264", UNEVEN_MS, {}),
    "reordered.mp4": ("libx264", None, {"options": REORDERED}),
    "no_edit_list.mp4": ("libx264", None, NO_EDIT_LIST),
    "fragmented.mp4": ("libx264", None, {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    "late.webm": ("libvpx", LATE_MS, {}),
    "uneven.webm": ("libvpx-vp9", UNEVEN_WEBM_MS, {}),
    "recorded.webm": ("libvpx", [999 + 40 * i for i in range(COUNT)], {"container_options": {"live": "1"}}),
}


def greys() -> list[Image]:
    """(96, 128, 3) pictures, each a little brighter than the one before."""
    return [np.full((96, 128, 3), LEVEL + STEP * i, np.uint8) for i in range(COUNT)]


def written(folder: Path, name: str) -> Path:
    """The container of that name, with the greys in it."""
    codec, times_ms, more = CONTAINERS[name]
    return write(folder / name, greys(), codec, times_ms=times_ms, **more)
