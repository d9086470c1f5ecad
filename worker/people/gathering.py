"""Collects people over one video: best faces of each track, embeddings when a track ends, clustering at the end.

Embeddings are biometric data: they stay in this object, which is freed with the job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from worker.core.records import Floats, TrackedFrame
from worker.people.best_faces import BestFaces, quality_of
from worker.people.grouping import grouped
from worker.people.identity import Identity


@dataclass(frozen=True)
class BestSeen:
    """The best frame of a person."""

    quality: float
    frame_index: int
    timestamp_s: float
    track_id: int


@dataclass(frozen=True)
class Known:
    """An embedded track.  embedding: (128,), the mean of its best faces."""

    embedding: Floats
    best: BestSeen
    frames: int


class Gathering:
    """The people of one video.  Call `see` and `end` from one thread; `people` afterwards, from any thread."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._open: dict[int, BestFaces] = {}
        self._frames: dict[int, int] = {}
        self._known: dict[int, Known] = {}
        self._together: tuple[int, ...] = ()
        self._apart: set[tuple[int, int]] = set()

    def see(self, tracked: TrackedFrame, sharpness: Callable[[int], float]) -> None:
        """Add a frame with its tracks.  sharpness: of the crop of the i-th face; asked for where it matters."""
        frame, faces, ids = tracked.frame, tracked.faces, tracked.track_ids
        for track_id in tracked.ended:
            self._finish(track_id)
        if frame.picture is None:
            return
        if ids != self._together:
            self._together = ids
            self._apart |= {(a, b) for a in ids for b in ids if a < b}
        for i, track_id in enumerate(ids):
            self._frames[track_id] = self._frames.get(track_id, 0) + 1
            best = self._open.setdefault(track_id, BestFaces())
            if not best.is_due(frame.timestamp_s):
                continue
            quality = quality_of(float(faces.widths[i]), faces.landmarks[i], sharpness(i))
            if quality:
                best.offer(quality, frame.frame_index, frame.timestamp_s, frame.picture, faces.landmarks[i])

    def end(self) -> None:
        """End the video: no further frames."""
        for track_id in list(self._open):
            self._finish(track_id)

    def people(self) -> tuple[dict[int, int], dict[int, BestSeen]]:
        """Track -> person, numbered in order of appearance, for embedded tracks; person -> best frame."""
        tracks = sorted(self._known, key=lambda track_id: -self._known[track_id].frames)
        if not tracks:
            return {}, {}
        rows = {track_id: row for row, track_id in enumerate(tracks)}
        apart = {tuple(sorted((rows[a], rows[b]))) for a, b in self._apart if a in rows and b in rows}
        groups = grouped(np.stack([self._known[track_id].embedding for track_id in tracks]), apart)  # type: ignore[arg-type]
        of_track = dict(zip(tracks, groups, strict=True))
        numbers: dict[int, int] = {}
        people = {track_id: numbers.setdefault(of_track[track_id], len(numbers)) for track_id in sorted(of_track)}
        best: dict[int, BestSeen] = {}
        for track_id, person in people.items():
            seen = self._known[track_id].best
            if person not in best or seen.quality > best[person].quality:
                best[person] = seen
        return people, best

    def _finish(self, track_id: int) -> None:
        best = self._open.pop(track_id, None)
        if best is None or not best.faces:
            return
        embedding = self._identity.embed([face.picture for face in best.faces]).mean(axis=0)
        face = max(best.faces, key=lambda face: face.quality)
        seen = BestSeen(face.quality, face.frame_index, face.timestamp_s, track_id)
        self._known[track_id] = Known(np.asarray(embedding, np.float32), seen, self._frames[track_id])
