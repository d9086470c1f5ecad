"""Where faces are in every frame of an input, to hide them: rather too many than too few.

Every frame is scanned, with a lower threshold than for labelling and without a job's options; large frames now and then
in finer detail.  Faces are tracked, and frames in which a track's face was missed get a box, too.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from worker.core.boxes import apart
from worker.core.picture import Picture
from worker.core.records import DecodedFrame, DetectedFrame, Detections, Floats, TrackedFrame
from worker.faces.finding import SAME_IOU
from worker.faces.scanning import MAX_SIDE_PX
from worker.faces.shots import ShotCuts, thumbnail
from worker.inference.detectors import open_scanners
from worker.tracks.association import MAX_GAP_S, Tracker

MIN_SCORE = 0.2  # of a scan; `docs/analysis.md` has the figures
# Longer side to which larger frames are reduced for a scan in finer detail, and how often there is one.
FINE_SIDE_PX, FINE_S = 1280, 0.25
AROUND_S = 0.5  # before the first and after the last scan that found a face, it is expected where it was


@dataclass(frozen=True)
class FrameFaces:
    """The faces of one frame.  boxes: (N, 4) float32 xyxy in pixels of its picture."""

    frame_index: int
    boxes: Floats


class AllFaces:
    """Finds faces with the network that scans for the default detector, on the CPU.

    Raises: BundleError if its files are missing or damaged.
    """

    def __init__(self) -> None:
        self._scanner, self._fine = open_scanners((MAX_SIDE_PX, FINE_SIDE_PX))

    def run(self, frames: Iterable[DecodedFrame]) -> Iterator[FrameFaces]:
        """Every frame's faces, in order, `MAX_GAP_S` after the frame was read.  Memory does not grow."""
        for _, shot in groupby(self._scanned(frames), key=lambda found: found[0]):
            yield from closed(Tracker().run(detected for _, detected in shot))

    def _scanned(self, frames: Iterable[DecodedFrame]) -> Iterator[tuple[int, DetectedFrame]]:
        """Each frame with its faces and the number of its shot."""
        cuts, shots, fine_s, shape = ShotCuts(), 0, -math.inf, None
        for frame in frames:
            faces = Detections.none()
            if frame.picture is not None:
                resized, shape = frame.picture.shape != shape, frame.picture.shape
                if cuts.is_cut(thumbnail(frame.picture)) or resized:
                    shots, fine_s = shots + 1, -math.inf
                is_fine = max(shape) > MAX_SIDE_PX and frame.timestamp_s - fine_s >= FINE_S
                fine_s = frame.timestamp_s if is_fine else fine_s
                faces = self._faces(frame.picture, is_fine=is_fine)
            yield shots, DetectedFrame(frame, faces, starts_shot=False)

    def _faces(self, picture: Picture, *, is_fine: bool) -> Detections:
        faces = self._scanner.detect([picture], MIN_SCORE)[0]
        if is_fine:
            faces = self._fine.detect([picture], MIN_SCORE)[0].and_(faces)
            faces = faces.take(np.flatnonzero(apart(faces.boxes, SAME_IOU)))
        return faces


@dataclass
class _Track:
    """times: seconds, ascending; the first is the latest that has passed, if one has.  boxes: (4,) at each."""

    times: deque[float] = field(default_factory=deque)
    boxes: deque[Floats] = field(default_factory=deque)

    def at(self, now_s: float) -> Floats | None:
        """(4,) the box at `now_s`; None where there is none yet, or no more.  Times must not decrease."""
        while len(self.times) > 1 and self.times[1] <= now_s:
            self.times.popleft()
            self.boxes.popleft()
        before_s, before = self.times[0], self.boxes[0]
        if len(self.times) > 1 and before_s <= now_s:
            share = (now_s - before_s) / (self.times[1] - before_s)
            return np.asarray(before + (self.boxes[1] - before) * np.float32(share), np.float32)
        return before if abs(now_s - before_s) <= AROUND_S else None


def closed(frames: Iterable[TrackedFrame]) -> Iterator[FrameFaces]:
    """Every frame of one shot with its faces, and those of tracks around it.

    Between two frames with a face of one track, its box moves evenly.
    """
    waiting: deque[DecodedFrame] = deque()
    tracks: dict[int, _Track] = {}
    for tracked in frames:
        now_s = tracked.frame.timestamp_s
        waiting.append(DecodedFrame(tracked.frame.frame_index, now_s, None))
        for track_id, box in zip(tracked.track_ids, tracked.faces.boxes, strict=True):
            track = tracks.setdefault(track_id, _Track())
            track.times.append(now_s)
            track.boxes.append(box)
        while now_s - waiting[0].timestamp_s > MAX_GAP_S:
            yield _faces_at(waiting.popleft(), tracks)
    while waiting:
        yield _faces_at(waiting.popleft(), tracks)


def _faces_at(frame: DecodedFrame, tracks: dict[int, _Track]) -> FrameFaces:
    boxes = []
    for track_id, track in list(tracks.items()):
        box = track.at(frame.timestamp_s)
        if box is not None:
            boxes.append(box)
        elif track.times[-1] < frame.timestamp_s:  # a later box would be known by now
            del tracks[track_id]
    return FrameFaces(frame.frame_index, np.array(boxes, np.float32).reshape(-1, 4))
