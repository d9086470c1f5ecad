"""The pipeline's detector: a scanner proposes faces, a second network (the look) verifies and refines each.

The default scans with CenterFace and looks with YuNet.  CenterFace finds small and turned faces that YuNet misses, but
also dark blobs at a frame's edge that YuNet rejects in a close view; so both scores count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.core.boxes import apart
from worker.core.picture import Shown
from worker.core.records import Detections, Floats
from worker.faces import Detector
from worker.faces.looking import VIEWS, Look

SURE = 0.7  # minimum score of the look for a face from a scan of a part
SAME_IOU = 0.4  # boxes with a higher IoU are the same face
UNSEEN = 0.65  # lower bound of the look's score in the sum: it misses profiles, which is no evidence against a face


@dataclass(frozen=True)
class Judgement:
    """Combines the scores of scan and look: a weighted sum of their logits.

    scanned_from: minimum score of the scan for a look.  min_score: threshold of the combined score.
    Chosen on the annotated frames and on pictures without faces (`docs/faces.md`).
    """

    scanned_from: float = 0.12
    look: float = 2.0
    constant: float = -0.915
    min_score: float = 0.5

    def __call__(self, scanned: Floats, looked: Floats) -> Floats:
        """Combine (N,) scores in 0..1 of scan and look, 0 where the look saw no face -> (N,) in 0..1."""
        total = _logit(scanned) + self.look * _logit(np.maximum(looked, UNSEEN)) + self.constant
        return np.asarray(1 / (1 + np.exp(-total)), np.float32)


class Finder:
    """Scans frames with a detector and looks at each face that it finds.  Used from one thread at a time.

    judgement: combines both scores; None for the scan's score alone.  second: looks at faces that `look` misses, such
    as profiles.  parts: a faster network that scans parts of frames, for faces with a high score of the look; the next
    scan of the whole frame finds the rest.  name: the detector's name in results.
    """

    def __init__(
        self,
        scanner: Detector,
        look: Look,
        *,
        judgement: Judgement | None = None,
        second: Look | None = None,
        parts: Detector | None = None,
        name: str,
    ) -> None:
        self.name, self.batch = name, scanner.batch
        self._scanner, self._look, self._second, self._judgement = scanner, look, second, judgement
        self._parts = parts

    def detect(
        self, images: Sequence[Shown], min_score: float | None, *, frame_side_px: int | None = None
    ) -> list[Detections]:
        """See `Detector.detect`."""
        if frame_side_px is not None and self._parts is not None:
            found = self._parts.detect(images, None, frame_side_px=frame_side_px)
            looks = (self._look.at(image, faces) for image, faces in zip(images, found, strict=True))
            return [faces.take(np.flatnonzero(faces.scores >= max(SURE, min_score or 0))) for faces in looks]
        judge = self._judgement
        lowest = min_score if judge is None else judge.scanned_from
        found = self._scanner.detect(images, lowest, frame_side_px=frame_side_px)
        return [self._looked_at(image, faces, min_score) for image, faces in zip(images, found, strict=True)]

    def threshold(self, min_score: float | None, share: float) -> float | None:
        """`share` of the threshold in use; None if that is the scanning network's default."""
        if min_score is None:
            return None if self._judgement is None else self._judgement.min_score * share
        return min_score * share

    def follow(self, image: Shown, faces: Detections, turn: int) -> tuple[Detections, npt.NDArray[np.bool_]]:
        """Locate N faces of a frame near in time, by one view each.  Returns them and a mask (N,) of those seen.

        turn: a frame counter; views alternate, so that the error of a single view averages out along a track.
        """
        view = VIEWS[turn % len(VIEWS) :][:1]
        found = self._look.at(image, faces, view)
        unseen = np.flatnonzero(found.scores == 0)
        if self._second is not None and len(unseen):
            again = self._second.at(image, faces.take(unseen), view)
            for part, new in (
                (found.boxes, again.boxes),
                (found.scores, again.scores),
                (found.landmarks, again.landmarks),
            ):
                part[unseen] = new
        return Detections(found.boxes, faces.scores, found.landmarks), found.scores > 0

    def _looked_at(self, image: Shown, faces: Detections, min_score: float | None) -> Detections:
        looked = self._look.at(image, faces)
        judge = self._judgement
        if judge is None:
            return Detections(looked.boxes, faces.scores, looked.landmarks)
        scores = judge(faces.scores, looked.scores)
        best_first = np.argsort(-scores, kind="stable")
        found = Detections(looked.boxes, scores, looked.landmarks).take(best_first)
        lowest = judge.min_score if min_score is None else min_score
        # The look moves candidates beside a face onto it.
        return found.take(np.flatnonzero((found.scores >= lowest) & apart(found.boxes, SAME_IOU)))


def _logit(scores: Floats) -> Floats:
    inside = np.clip(scores, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(inside / (1 - inside)), np.float32)
