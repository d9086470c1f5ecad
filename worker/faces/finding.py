"""A detector whose faces are looked at again: what the pipeline uses, whatever scans the frames.

The default scans with CenterFace and looks with YuNet.  CenterFace finds small and turned faces that YuNet misses, and
also dark blobs at a frame's edge that YuNet, looking at them, does not take for a face; so both scores count.
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

SURE = 0.7  # score of a look that makes a face of what a scan of a part has found
SAME_IOU = 0.4  # boxes that overlap more are the same face
UNSEEN = 0.65  # what a look counts for at the least: a profile that it does not know is no evidence against a face


@dataclass(frozen=True)
class Judgement:
    """How the scores of a scan and of the look become one: a weighted sum of their logits.

    scanned_from: scores of the scan from which on a face is looked at.  min_score: the threshold of the sum.
    Chosen on the marked frames and on pictures without faces (`docs/faces.md`).
    """

    scanned_from: float = 0.12
    look: float = 2.0
    constant: float = -0.915
    min_score: float = 0.5

    def __call__(self, scanned: Floats, looked: Floats) -> Floats:
        """(N,) scores in 0..1 of both, 0 where the look saw none, as one."""
        total = _logit(scanned) + self.look * _logit(np.maximum(looked, UNSEEN)) + self.constant
        return np.asarray(1 / (1 + np.exp(-total)), np.float32)


class Finder:
    """Scans frames with a detector and looks at each face that it finds.  Used from one thread at a time.

    judgement: how both scores are joined; without it the scan's count alone.  second: looks at faces that `look` does
    not see; profiles, for instance.  parts: a faster network that scans parts of frames, for what the look is sure of;
    the next scan of the whole frame finds the rest.
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
        """The score that is `share` of the one in force; None where only the scanning network knows it."""
        if min_score is None:
            return None if self._judgement is None else self._judgement.min_score * share
        return min_score * share

    def follow(self, image: Shown, faces: Detections, turn: int) -> tuple[Detections, npt.NDArray[np.bool_]]:
        """Where faces (N) of a frame near in time are in this one, in one view each, and which of them are seen (N,).

        turn: counts frames; the views take turns, so that what is peculiar to one averages out along a track.
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
        # Candidates beside a face come to lie on it when they are looked at.
        return found.take(np.flatnonzero((found.scores >= lowest) & apart(found.boxes, SAME_IOU)))


def _logit(scores: Floats) -> Floats:
    inside = np.clip(scores, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(inside / (1 - inside)), np.float32)
