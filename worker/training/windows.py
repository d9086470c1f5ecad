"""Windows of frames: which frames of a clip a temporal member sees together.

All functions return (W, window) int64 indices of the clip's frames, or of all clips' frames laid end to end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def centred_windows(frames: int, window: int) -> Indices:
    """A window around every frame, as it is served: the clip's first and last frame are repeated beyond its ends."""
    offsets = np.arange(window) - window // 2
    return np.asarray(np.clip(np.arange(frames)[:, None] + offsets, 0, max(frames - 1, 0)), np.int64)


def strided_windows(frames: int, window: int, stride: int) -> Indices:
    """The published training windows: one every `stride` frames, the last moved back to end at the last frame.

    Clips of half a window (4 of 9 frames) or more are padded by repeating their last frame; shorter ones give none.
    """
    if frames < window:
        padded = np.minimum(np.arange(window), frames - 1)[None]
        return padded.astype(np.int64) if frames >= window // 2 else np.empty((0, window), np.int64)
    starts = list(range(0, frames - window + 1, stride))
    if starts[-1] != frames - window:
        starts.append(frames - window)
    return np.array(starts, np.int64)[:, None] + np.arange(window)


def laid_end_to_end(windows: Sequence[Indices], lengths: Sequence[int]) -> Indices:
    """Windows of each clip, by their indices into all clips' frames, so that no window crosses two clips."""
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(lengths) else np.zeros(0)
    moved = [clip + int(start) for clip, start in zip(windows, starts, strict=True)]
    return np.concatenate(moved) if moved else np.empty((0, 0), np.int64)
