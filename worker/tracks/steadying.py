"""Smoothing: boxes and landmarks of a track are smoothed over time, without lag.

The job is offline, so values after a frame are known as well as those before it.  Each value is replaced by that of a
parabola fitted to the track's values around the frame, weighted by a Gaussian in time.  A parabola follows an
accelerating movement; its residuals are the network's noise.  If the face moves in a way that a long window does not
follow, a short window is used: noise changes sign within a few frames, a movement stays on one side for longer.
Frames in which a track was missed briefly get fitted values, too.

Source: Cleveland 1979, Robust Locally Weighted Regression and Smoothing Scatterplots; with two window widths instead of
robustness weights.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from worker.core.records import Detections, Floats, TrackedFrame

AROUND_S = 0.6  # half-width of the window
LONG_S, SHORT_S = 0.18, 0.05  # standard deviations of the two Gaussian weights
FEWEST = 5  # minimum number of values for a fit; fewer stay unsmoothed
MISSED_S = 0.25  # longer gaps in a track are not filled
# Deviation of means over `SHORT_S` from the long parabola: by noise alone, in widths of the box and at least in pixels;
# and the multiple of it that means movement.  The look's views differ by about a hundredth of the width and alternate
# in less than half a second, which resembles a nod.
NOISE_WIDTHS, NOISE_PX, MOVEMENT = 0.015, 0.5, 2.0
WAITING_BYTES = 64 * 2**20


@dataclass
class _Track:
    """times: seconds, ascending.  rows: (15,) box, score and landmarks at each time."""

    times: deque[float] = field(default_factory=deque)
    rows: deque[Floats] = field(default_factory=deque)

    def forget(self, before_s: float) -> None:
        while self.times and self.times[0] < before_s:
            self.times.popleft()
            self.rows.popleft()

    def at(self, now_s: float) -> Floats | None:
        """(15,) the track's smoothed values at `now_s`; None outside the track or in a long gap."""
        times = np.array(self.times)
        after = int(np.searchsorted(times, now_s))
        if after == len(times):
            return None
        if times[after] != now_s and (not after or times[after] - times[after - 1] > MISSED_S):
            return None
        near = slice(0, int(np.searchsorted(times, now_s + AROUND_S, side="right")))
        away, rows = times[near] - now_s, np.array(self.rows)[near]
        if len(away) < FEWEST or away[-1] - away[0] <= 0:
            return _between(away, rows, after)
        return _smoothed(away, rows)


class Steadying:
    """Smooths the tracks of one stream.  min_face_px: narrower boxes are dropped."""

    def __init__(self, min_face_px: float) -> None:
        self._min_face_px = min_face_px
        self._waiting: deque[TrackedFrame] = deque()
        self._tracks: dict[int, _Track] = {}
        self._bytes = 0

    def run(self, frames: Iterable[TrackedFrame]) -> Iterator[TrackedFrame]:
        """Every frame with its smoothed faces, in order, delayed by at most `AROUND_S`."""
        for frame in frames:
            self._take(frame)
            while self._is_due(frame):
                yield self._next()
        while self._waiting:
            yield self._next()

    def _take(self, frame: TrackedFrame) -> None:
        self._waiting.append(frame)
        self._bytes += _size(frame)
        if frame.track_ids:
            faces = frame.faces
            rows = np.hstack([faces.boxes, faces.scores[:, None], faces.landmarks.reshape(-1, 10)])
            for track_id, row in zip(frame.track_ids, rows, strict=True):
                track = self._tracks.setdefault(track_id, _Track())
                track.times.append(frame.frame.timestamp_s)
                track.rows.append(row)

    def _is_due(self, newest: TrackedFrame) -> bool:
        if len(self._waiting) > 1 and self._bytes > WAITING_BYTES:
            return True
        return newest.frame.timestamp_s - self._waiting[0].frame.timestamp_s > AROUND_S

    def _next(self) -> TrackedFrame:
        current = self._waiting.popleft()
        self._bytes -= _size(current)
        now_s = current.frame.timestamp_s
        shown: dict[int, Floats] = {}
        for track_id, track in list(self._tracks.items()):
            track.forget(now_s - AROUND_S)
            if not track.times:
                del self._tracks[track_id]
            elif current.frame.picture is not None:
                row = track.at(now_s)
                if row is not None and row[2] - row[0] >= self._min_face_px:
                    shown[track_id] = row
        rows = np.array(list(shown.values()), np.float32).reshape(-1, 15)
        steady = Detections(rows[:, :4], rows[:, 4].clip(0, 1), rows[:, 5:].reshape(-1, 5, 2))
        return replace(current, faces=steady, track_ids=tuple(shown))


def _smoothed(away: npt.NDArray[np.float64], rows: Floats) -> Floats:
    """(15,) smoothed values at the frame.  away: (N,) seconds from the frame.  rows: (N, 15)."""
    powers = np.stack([np.ones_like(away), away, away**2])  # (3, N)
    long = _fit(away, powers, rows, LONG_S)
    off = _local_means(away, (rows - powers.T @ long) @ _CENTRE)  # (5, 2) of the box's centre
    distance = float(np.sqrt(_NEARNESS @ (off**2).sum(axis=1)))
    noise = max(NOISE_WIDTHS * float(rows[0, 2] - rows[0, 0]), NOISE_PX)
    moves = min(max((distance / noise - 1) / (MOVEMENT - 1), 0.0), 1.0)
    if not moves:
        return np.asarray(long[0], np.float32)
    short = _fit(away, powers, rows, SHORT_S)
    return np.asarray(long[0] + (short[0] - long[0]) * moves, np.float32)


def _fit(
    away: npt.NDArray[np.float64], powers: npt.NDArray[np.float64], rows: Floats, deviation_s: float
) -> npt.NDArray[np.float64]:
    """Coefficients (3, 15) of the weighted parabola."""
    # Far values keep a small weight, so that the short fit is determined at low frame rates.
    weighted = powers * (np.exp(-0.5 * (away / deviation_s) ** 2) + 1e-6)
    # `lstsq`, since values at only one or two distinct times leave the parabola underdetermined.
    found, *_ = np.linalg.lstsq(weighted @ powers.T, weighted @ rows, rcond=1e-10)
    return np.asarray(found, np.float64)


def _local_means(away: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(5, 2) Gaussian means of the values (N, 2) around each of `_PLACES_S`."""
    weights = np.exp(-0.5 * ((_PLACES_S[:, None] - away) / SHORT_S) ** 2)  # (5, N)
    return np.asarray(weights @ values / weights.sum(axis=1, keepdims=True), np.float64)


def _between(away: npt.NDArray[np.float64], rows: Floats, after: int) -> Floats:
    """(15,) linear interpolation at the frame between its two neighbours."""
    if away[after] == 0:
        return np.asarray(rows[after], np.float32)
    share = -away[after - 1] / (away[after] - away[after - 1])
    return np.asarray(rows[after - 1] + (rows[after] - rows[after - 1]) * share, np.float32)


def _size(frame: TrackedFrame) -> int:
    return 0 if frame.frame.picture is None else frame.frame.picture.nbytes


# Projects a row (15,) to the centre (2,) of its box.
_CENTRE = np.zeros((15, 2))
_CENTRE[[0, 2], 0] = _CENTRE[[1, 3], 1] = 0.5

# Times, in seconds from the frame, at which the deviation from the long parabola is measured, and their weights.
_PLACES_S = np.arange(-2, 3) * SHORT_S
_NEARNESS = np.exp(-0.5 * (_PLACES_S / (2 * SHORT_S)) ** 2)
_NEARNESS /= _NEARNESS.sum()
