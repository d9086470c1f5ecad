"""Follow faces over a stream of frames: known faces get a look in every frame or two, whole frames are scanned rarely.

A whole frame is scanned at a cut, after a face is lost, and every few seconds if anything moves.  If the picture
changes away from the known faces, only that part is scanned.  A face that a scan finds is followed backwards through
the buffered frames, so that it is reported from its first frame on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from worker.core.boxes import apart, iou_matrix, match_boxes
from worker.core.picture import Shown
from worker.core.records import DecodedFrame, DetectedFrame, Detections, Floats, LeftOut
from worker.faces.finding import SAME_IOU, Finder
from worker.faces.shots import Change, Region, ShotCuts, Thumbnail, beyond_faces, thumbnail

LOOK_S = 0.075  # interval of looks at known faces; in between they are interpolated
# A face that deviates from constant velocity by more than UNEVEN widths shakes or turns, and interpolation would miss
# that: for `RESTLESS_S` the interval of looks is `SOON_S`.
UNEVEN, RESTLESS_S, SOON_S = 0.1, 1.0, 0.03
# Seconds between scans: after a face is lost; after a change away from the known faces; after any change since the last
# scan of the whole frame.
LOST_S, CHANGED_S, ANY_S = 0.1, 0.4, 2.5
CHECK_S = 0.1  # interval of checks for changes
KEPT_SHARE = 0.5  # of the threshold: the score with which a scan keeps a known face
BACK_S, BACK_BYTES = 0.4, 64 * 2**20  # limits of the buffer of frames that the next scan can add faces to
SLACK_S = 1e-3  # rounding of timestamps
LARGEST_REGION = 0.5  # of the frame's area; if a larger part changes, the whole frame is scanned


@dataclass
class _Waiting:
    """A buffered frame.  faces: None until the next look, from which they are interpolated."""

    frame: DecodedFrame
    faces: Detections | None
    starts_shot: bool
    left_out: LeftOut


class Following:
    """Finds the faces of every frame of one stream.

    max_faces: limit in a frame; followed faces come first, then the largest.  min_face_px: minimum width of a box.
    min_score: in 0..1, None for the detector's default.
    """

    def __init__(self, finder: Finder, max_faces: int, min_face_px: float, min_score: float | None) -> None:
        self._finder = finder
        self._max_faces, self._min_face_px, self._min_score = max_faces, min_face_px, min_score
        self._cuts = ShotCuts()
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._shape: tuple[int, ...] = ()
        self._forget()

    def run(self, frames: Iterable[DecodedFrame]) -> Iterator[DetectedFrame]:
        """Every frame with its faces, in order."""
        for frame in frames:
            if frame.picture is None:
                self._add(frame, Detections.none(), starts_shot=False)
            else:
                small = thumbnail(frame.picture)
                # A change of the picture's size invalidates all positions.
                resized, self._shape = frame.picture.shape != self._shape, frame.picture.shape
                cut = self._cuts.is_cut(small) or (resized and self._change is not None)
                if cut:
                    yield from self._released(all_=True)
                    self._forget()
                self._see(frame, frame.picture, small, starts_shot=cut)
            yield from self._released()
        yield from self._released(all_=True)

    def _forget(self) -> None:
        """Reset the state at a new shot."""
        self._known, self._known_s = Detections.none(), 0.0
        # The known faces at the last two times, at least `LOOK_S` apart.
        self._steps: deque[tuple[float, Detections]] = deque(maxlen=2)
        self._restless_until_s = -math.inf
        self._left_out = LeftOut()
        self._change: Change | None = None  # since the last scan
        self._scanned_s = self._scanned_all_s = self._checked_s = 0.0
        self._lost = self._moves = False
        self._turn = 0

    def _see(self, frame: DecodedFrame, image: Shown, small: Thumbnail, *, starts_shot: bool) -> None:
        now_s = frame.timestamp_s
        region = self._due(now_s, image, small)
        look_s = SOON_S if now_s < self._restless_until_s else LOOK_S
        early = now_s - self._known_s + SLACK_S < look_s and self._bytes < BACK_BYTES
        if region is None and early and self._change is not None:
            self._add(frame, None, starts_shot=starts_shot)
            return
        faces = self._followed(frame, image)
        if self._lost and now_s - self._scanned_s + SLACK_S >= LOST_S:
            region = Region.whole(image)
        if region is not None:
            faces, new = self._scan(image, region, faces)
            if region.is_whole:
                self._scanned_all_s, self._moves = now_s, False
            self._scanned_s, self._change, self._lost = now_s, Change(small), False
            self._follow_back(new)
        self._note_movement(faces, now_s)
        self._known, self._known_s = faces, now_s
        self._add(frame, faces, starts_shot=starts_shot)

    def _due(self, now_s: float, image: Shown, small: Thumbnail) -> Region | None:
        """The region of this frame to scan because of changes; None for no scan."""
        if self._change is None:
            return Region.whole(image)
        if now_s - max(self._scanned_s + CHANGED_S, self._checked_s + CHECK_S) + SLACK_S < 0:
            return None
        self._checked_s = now_s
        cells = self._change.cells(small)
        self._moves = self._moves or bool(cells.any())
        if self._moves and now_s - self._scanned_all_s + SLACK_S >= ANY_S:
            return Region.whole(image)
        region = beyond_faces(cells, self._known.boxes, image)
        return Region.whole(image) if region is not None and region.share(image) > LARGEST_REGION else region

    def _followed(self, frame: DecodedFrame, image: Shown) -> Detections:
        """The known faces that are seen in this frame.  Sets the faces of the frames since the last look, too."""
        found, seen = self._look(image, self._known)
        seen[seen] = apart(found.boxes[seen], SAME_IOU)
        kept, gone = np.flatnonzero(seen), np.flatnonzero(~seen)
        self._lost = self._lost or bool(len(gone))
        before, after = self._known.take(kept), found.take(kept)
        for waiting in self._waiting:
            if waiting.faces is None and waiting.frame.picture is not None:
                share = (waiting.frame.timestamp_s - self._known_s) / max(frame.timestamp_s - self._known_s, 1e-9)
                faces = _between(before, after, share)
                if len(gone):
                    still, there = self._look(waiting.frame.picture, self._known.take(gone))
                    faces = faces.and_(still.take(np.flatnonzero(there)))
                waiting.faces = faces
        return after

    def _note_movement(self, faces: Detections, now_s: float) -> None:
        """Shorten the interval of looks if a face deviates from constant velocity."""
        if self._steps and now_s - self._steps[-1][0] + SLACK_S < LOOK_S:
            return
        if len(self._steps) == 2:
            (first_s, first), (last_s, last) = self._steps
            before = {j: i for i, j in match_boxes(first.boxes, last.boxes)}
            for i, j in match_boxes(last.boxes, faces.boxes):
                if i in before:
                    step = (last.boxes[i] - first.boxes[before[i]]) * ((now_s - last_s) / (last_s - first_s))
                    off = faces.boxes[j] - last.boxes[i] - step
                    if np.abs(off[:2] + off[2:]).max() / 2 > UNEVEN * faces.widths[j]:
                        self._restless_until_s = now_s + RESTLESS_S
        self._steps.append((now_s, faces))

    def _look(self, image: Shown, faces: Detections) -> tuple[Detections, npt.NDArray[np.bool_]]:
        self._turn += 1
        return self._finder.follow(image, faces, self._turn)

    def _scan(self, image: Shown, region: Region, followed: Detections) -> tuple[Detections, Detections]:
        """Scan a region.  Returns the faces to follow, and the new ones among them.

        A known face that a scan of the whole frame does not find is dropped.
        """
        finder = self._finder
        lowest, side = finder.threshold(self._min_score, KEPT_SHARE), max(image.shape)
        found = region.faces(finder.detect([region.of(image)], lowest, frame_side_px=side)[0])
        pairs = match_boxes(followed.boxes, found.boxes)
        matched = np.array([j for _, j in pairs], np.intp)
        known = found.take(matched) if region.is_whole else followed
        certain = finder.threshold(self._min_score, 1.0)
        others = np.setdiff1d(np.arange(len(found)), matched)
        if certain is not None:
            others = others[found.scores[others] >= certain]
        new = found.take(others)
        if not region.is_whole:  # its edge may cut through known faces
            new = new.take(np.flatnonzero(~_centred_in(new.boxes, known.boxes)))
        wide = new.widths >= self._min_face_px
        too_small = int((~wide).sum())
        new = new.take(np.flatnonzero(wide))
        new = new.take(np.argsort(-np.prod(new.boxes[:, 2:] - new.boxes[:, :2], axis=1), kind="stable"))
        room = max(self._max_faces - len(known), 0)
        self._leave_out(LeftOut(max(len(new) - room, 0), too_small), region)
        new = new.take(np.arange(min(len(new), room)))
        if not region.is_whole:  # its edge may cut through them
            new, _ = self._look(image, new)
            new = new.take(np.flatnonzero(~_overlaps(new.boxes, known.boxes)))
        return known.and_(new), new

    def _leave_out(self, faces: LeftOut, region: Region) -> None:
        """Record how many faces the options exclude; a scan of a part may miss some, so the counts never fall there."""
        before = LeftOut() if region.is_whole else self._left_out
        self._left_out = LeftOut(max(faces.too_many, before.too_many), max(faces.too_small, before.too_small))

    def _follow_back(self, faces: Detections) -> None:
        """Add new faces of a scan to the buffered frames before it, as far back as they are seen."""
        for waiting in reversed(self._waiting):
            if not len(faces):
                return
            if waiting.frame.picture is not None and waiting.faces is not None:
                found, seen = self._look(waiting.frame.picture, faces)
                seen &= ~_overlaps(found.boxes, waiting.faces.boxes)
                seen[seen] = apart(found.boxes[seen], SAME_IOU)
                room = max(self._max_faces - len(waiting.faces), 0)
                faces = found.take(np.flatnonzero(seen)[:room])
                waiting.faces = waiting.faces.and_(faces)
            if waiting.starts_shot:
                return

    def _add(self, frame: DecodedFrame, faces: Detections | None, *, starts_shot: bool) -> None:
        self._waiting.append(_Waiting(frame, faces, starts_shot, self._left_out))
        self._bytes += _size(frame)

    def _released(self, *, all_: bool = False) -> Iterator[DetectedFrame]:
        """Release the frames that no later scan can add a face to; all of them if `all_`."""
        unseen = next((waiting for waiting in reversed(self._waiting) if waiting.faces is None), None) if all_ else None
        if unseen is not None and unseen.frame.picture is not None:  # always true here: it narrows the type
            unseen.faces = self._followed(unseen.frame, unseen.frame.picture)
        while self._waiting:
            first, last = self._waiting[0], self._waiting[-1]
            early = last.frame.timestamp_s - first.frame.timestamp_s < BACK_S and self._bytes < BACK_BYTES
            if first.faces is None or (early and not all_):
                return
            self._waiting.popleft()
            self._bytes -= _size(first.frame)
            wide = np.flatnonzero(first.faces.widths >= self._min_face_px)
            left_out = first.left_out
            if shrunk := len(first.faces) - len(wide):
                left_out = replace(left_out, too_small=left_out.too_small + shrunk)
            yield DetectedFrame(first.frame, first.faces.take(wide), first.starts_shot, left_out)


def _size(frame: DecodedFrame) -> int:
    return 0 if frame.picture is None else frame.picture.nbytes


def _overlaps(boxes: Floats, others: Floats) -> npt.NDArray[np.bool_]:
    """(N,) mask: the boxes that are the same face as one of the others."""
    if not len(others):
        return np.zeros(len(boxes), np.bool_)
    return np.asarray((iou_matrix(boxes, others) > SAME_IOU).any(axis=1), np.bool_)


def _centred_in(boxes: Floats, others: Floats) -> npt.NDArray[np.bool_]:
    """(N,) mask: the boxes whose centre lies in one of the others."""
    centres = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2  # (N, 1, 2)
    inside = (centres >= others[:, :2]) & (centres <= others[:, 2:])  # (N, M, 2)
    return np.asarray(np.any(np.all(inside, axis=2), axis=1), np.bool_)


def _between(before: Detections, after: Detections, share: float) -> Detections:
    def mix(a: Floats, b: Floats) -> Floats:
        return np.asarray(a + (b - a) * np.float32(share), np.float32)

    return Detections(
        mix(before.boxes, after.boxes), mix(before.scores, after.scores), mix(before.landmarks, after.landmarks)
    )
