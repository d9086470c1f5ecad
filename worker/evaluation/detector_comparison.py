"""Compares two face detectors on the same frames: recall, accuracy of landmarks, speed.

The reference's faces are taken as true from score `SURE` on.  A face is found if a box overlaps it by an IoU of
`SAME_FACE_IOU` or more.  A box is false if it is `min_face_px` wide and the reference has nothing there, not even
at score `DOUBTFUL` and of any size: no box that overlaps it by more than `NOTHING_THERE_IOU`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from worker.core.boxes import iou_matrix
from worker.core.records import Detections, Image, LabelledFrame
from worker.faces import Detector

SURE, DOUBTFUL = 0.7, 0.3
SAME_FACE_IOU = 0.4
NOTHING_THERE_IOU = 0.1
WARM_UP_FRAMES = 2
PAGE = 8  # frames per turn: the detectors alternate, so that disturbances of the machine affect both


@dataclass
class Tally:
    """Counts over frames.  small_*: faces narrower than the smallest that counts.  errors: of landmarks, in eye
    distances, one per matched face.  *_ms: one per frame."""

    frames: int = 0
    faces: int = 0
    found: int = 0
    small_faces: int = 0
    small_found: int = 0
    false_boxes: int = 0
    errors: list[float] = field(default_factory=list)
    detector_ms: list[float] = field(default_factory=list)
    reference_ms: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float | int | None]:
        """The metrics for the report; None for an empty denominator."""
        detector, reference = _median(self.detector_ms), _median(self.reference_ms)
        return {
            "frames": self.frames,
            "faces": self.faces,
            "recall": _share(self.found, self.faces),
            "small_faces": self.small_faces,
            "small_recall": _share(self.small_found, self.small_faces),
            "false_boxes_a_frame": _share(self.false_boxes, self.frames),
            "landmark_error": float(np.mean(self.errors)) if self.errors else None,
            "detector_ms": detector,
            "reference_ms": reference,
            "ratio": detector / reference if detector is not None and reference else None,
        }


def compare(
    detector: Detector,
    reference: Detector,
    frames: Iterable[Image],
    min_face_px: float,
    min_score: float | None = None,
) -> Tally:
    """Both detectors on every frame (H, W, 3) uint8 RGB.  min_score: the detector's; None for its own."""
    tally = Tally()
    for number, page in enumerate(_pages(frames, PAGE)):
        if number == 0:
            for either in (detector, reference):
                either.detect(page[:WARM_UP_FRAMES], None)
        found, spent = _timed(detector, page, min_score)
        known, reference_spent = _timed(reference, page, DOUBTFUL)
        tally.detector_ms += spent
        tally.reference_ms += reference_spent
        for ours, theirs in zip(found, known, strict=True):
            count(tally, ours, theirs, min_face_px)
    return tally


def count(tally: Tally, found: Detections, reference: Detections, min_face_px: float) -> None:
    """One frame's faces: what the detector found, and what the reference did from score `DOUBTFUL` on."""
    tally.frames += 1
    sure = reference.take(np.flatnonzero(reference.scores >= SURE))
    overlap = iou_matrix(sure.boxes, found.boxes)  # (N, M)
    for i, box in enumerate(sure.boxes):
        best = int(overlap[i].argmax()) if len(found) else -1
        hit = best >= 0 and bool(overlap[i, best] >= SAME_FACE_IOU)
        if box[2] - box[0] >= min_face_px:
            tally.faces += 1
            tally.found += hit
            if hit:
                tally.errors.append(landmark_error(found.landmarks[best], sure.landmarks[i]))
        else:
            tally.small_faces += 1
            tally.small_found += hit
    wide = found.boxes[:, 2] - found.boxes[:, 0] >= min_face_px
    alone = iou_matrix(found.boxes, reference.boxes).max(axis=1, initial=0.0) <= NOTHING_THERE_IOU
    tally.false_boxes += int((wide & alone).sum())


def landmark_error(found: np.ndarray, true: np.ndarray) -> float:
    """Mean distance of the five landmarks (5, 2) in units of the true distance of the eyes."""
    eyes = float(np.hypot(*(true[0] - true[1])))
    return float(np.hypot(*(found - true).T).mean()) / max(eyes, 1e-6)


def same_labels(ours: Iterable[LabelledFrame], theirs: Iterable[LabelledFrame]) -> tuple[int, int]:
    """Of the faces that both pipelines found in a frame: how many got the same label, and their total."""
    same = matched = 0
    for a, b in zip(ours, theirs, strict=True):
        boxes = [np.array([_corners(face.bbox) for face in f.frame.faces], np.float32).reshape(-1, 4) for f in (a, b)]
        overlap = iou_matrix(boxes[0], boxes[1])
        for i in range(len(boxes[0])):
            if overlap.shape[1] and overlap[i].max() >= SAME_FACE_IOU:
                matched += 1
                same += int(a.fused[i].argmax() == b.fused[int(overlap[i].argmax())].argmax())
    return same, matched


def _timed(detector: Detector, page: Sequence[Image], min_score: float | None) -> tuple[list[Detections], list[float]]:
    found: list[Detections] = []
    spent: list[float] = []
    for start in range(0, len(page), detector.batch):
        part = page[start : start + detector.batch]
        # Thread CPU time: on one thread it is independent of other load.
        before = time.thread_time()
        found += detector.detect(part, min_score)
        spent += [(time.thread_time() - before) * 1000 / len(part)] * len(part)
    return found, spent


def _pages(frames: Iterable[Image], size: int) -> Iterator[list[Image]]:
    page: list[Image] = []
    for frame in frames:
        page.append(frame)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page


def _corners(bbox: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, width, height = bbox
    return left, top, left + width, top + height


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None
