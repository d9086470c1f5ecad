"""Steady faces: boxes and landmarks of a track are smoothed over time, without lag.

The job is offline, so what follows a frame is known as well as what came before it: each value is that of a parabola
fitted to the track's values around the frame, nearer ones counting more.  A parabola follows a movement that speeds up;
what it leaves out is the network's noise.  Where the face moves in a way that a long parabola does not follow, a short
one counts: noise lies on both sides of a parabola within a few frames, a movement stays on one side for longer.  Frames
in which a track was missed for a moment get its fitted values, too.

Source: Cleveland 1979, Robust Locally Weighted Regression and Smoothing Scatterplots; with two widths in place of
weights that resist outliers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from worker.core.records import Detections, Floats, TrackedFrame

AROUND_S = 0.6  # values within so many seconds of a frame count
LONG_S, SHORT_S = 0.18, 0.05  # standard deviations of the Gaussians that weigh them
FEWEST = 5  # values that a parabola is fitted to; fewer stay as they are
MISSED_S = 0.25  # a track that was not seen for longer is not there meanwhile
# How far means over `SHORT_S` lie off the long parabola by the network's noise: in widths of the box, and at the least
# in pixels; and how many times more they do where the face moves.  The views that faces are followed in differ by about
# a hundredth of the width and take turns in less than half a second, which looks like a nod.
NOISE_WIDTHS, NOISE_PX, MOVEMENT = 0.015, 0.5, 2.0
WAITING_BYTES = 64 * 2**20


@dataclass
class _Track:
    """times: seconds, ascending.  rows: (15,) box, score and landmarks at each."""

    times: deque[float] = field(default_factory=deque)
    rows: deque[Floats] = field(default_factory=deque)

    def forget(self, before_s: float) -> None:
        while self.times and self.times[0] < before_s:
            self.times.popleft()
            self.rows.popleft()

    def at(self, now_s: float) -> Floats | None:
        """(15,) the track's values at the time; None where it is not there."""
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
    """Smooths the tracks of one stream.  min_face_px: narrower boxes are left out."""

    def __init__(self, min_face_px: float) -> None:
        self._min_face_px = min_face_px
        self._waiting: deque[TrackedFrame] = deque()
        self._tracks: dict[int, _Track] = {}
        self._bytes = 0

    def run(self, frames: Iterable[TrackedFrame]) -> Iterator[TrackedFrame]:
        """Every frame with its smoothed faces, in order, at most `AROUND_S` after it came."""
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
    """(15,) at 0 seconds, of rows (N, 15) that many seconds away."""
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
    # Far values keep a little weight, so that a short parabola is fitted, too, where frames are rare.
    weighted = powers * (np.exp(-0.5 * (away / deviation_s) ** 2) + 1e-6)
    # Least squares, since values at one or two times, or nearly so, leave the parabola open.
    found, *_ = np.linalg.lstsq(weighted @ powers.T, weighted @ rows, rcond=1e-10)
    return np.asarray(found, np.float64)


def _local_means(away: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(5, 2): weighted means of the values (N, 2) around each of `_PLACES_S`."""
    weights = np.exp(-0.5 * ((_PLACES_S[:, None] - away) / SHORT_S) ** 2)  # (5, N)
    return np.asarray(weights @ values / weights.sum(axis=1, keepdims=True), np.float64)


def _between(away: npt.NDArray[np.float64], rows: Floats, after: int) -> Floats:
    """(15,) at 0 seconds on the line between the values around it."""
    if away[after] == 0:
        return np.asarray(rows[after], np.float32)
    share = -away[after - 1] / (away[after] - away[after - 1])
    return np.asarray(rows[after - 1] + (rows[after] - rows[after - 1]) * share, np.float32)


def _size(frame: TrackedFrame) -> int:
    return 0 if frame.frame.picture is None else frame.frame.picture.nbytes


# From a row to the centre of its box.
_CENTRE = np.zeros((15, 2))
_CENTRE[[0, 2], 0] = _CENTRE[[1, 3], 1] = 0.5

# Where the distance from the long parabola is measured, in seconds from the frame, and how much each place counts.
_PLACES_S = np.arange(-2, 3) * SHORT_S
_NEARNESS = np.exp(-0.5 * (_PLACES_S / (2 * SHORT_S)) ** 2)
_NEARNESS /= _NEARNESS.sum()
