"""A wrapper of any detector that measures every face again in several views with the eyes level.

Detectors are trained on upright heads and less accurate on tilted ones: beyond about 15 degrees YuNet's landmarks lie
beside the features.  Their landmarks also vary with the size and position of a face in the picture, YuNet's by 5 to
10 % of the eye distance.  The median of several views has neither fault.  It is slow, dozens of detections for each
face: a reference for comparing detectors, and a teacher for landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from worker.core.affine import MIRRORED, inverse, moved, similarity, warped
from worker.core.boxes import iou_matrix
from worker.core.picture import Shown
from worker.core.records import Detections, Floats
from worker.faces import Detector
from worker.faces.looking import View

ROUNDS = 3  # maximum number of times that the views are rotated again
LEVEL_DEGREES = 2.0  # a smaller change of the tilt ends the rounds
VIEW_PX, MOST_ENLARGED = 256, 2.5  # side of a view, and its maximum enlargement of the picture
SAME_FACE_IOU = 0.3
MIN_SCORE = 0.5
FEWEST = 1 / 3  # minimum share of views that show the face


# Here face_px is the longer side of the box.
VIEWS = tuple(
    View(face_px, degrees, off, mirrored)
    for face_px, degrees, off in (
        (56, -5, (3, -7)),
        (69, 5, (-10, 5)),
        (86, -2, (8, 10)),
        (105, 2, (-5, -3)),
        (130, -4, (11, 1)),
        (160, 4, (-2, -11)),
    )
    for mirrored in (False, True)
)


class Levelled:
    """Boxes and scores of the detector; landmarks are the median of its results in the levelled views."""

    def __init__(self, detector: Detector, views: Sequence[View] = VIEWS) -> None:
        self._detector, self._views = detector, views
        self.name, self.batch = f"levelled:{detector.name}", detector.batch

    def detect(
        self, images: Sequence[Shown], min_score: float | None, *, frame_side_px: int | None = None
    ) -> list[Detections]:
        """See `Detector.detect`."""
        found = self._detector.detect(images, min_score, frame_side_px=frame_side_px)
        return [self._levelled(image, faces) for image, faces in zip(images, found, strict=True)]

    def _levelled(self, image: Shown, faces: Detections) -> Detections:
        if not len(faces):
            return faces
        marks = []
        for box, own in zip(faces.boxes, faces.landmarks, strict=True):
            agreed = self.landmarks(image, box, own)
            marks.append(own if agreed is None else agreed)
        return Detections(faces.boxes, faces.scores, np.array(marks, np.float32))

    def landmarks(self, image: Shown, box: npt.NDArray[np.float32], marks: Floats) -> Floats | None:
        """Median landmarks (5, 2) of the views, in pixels of the image; None if too few views show the face.

        image: (H, W, 3) uint8 RGB.  box: (4,) xyxy and marks: (5, 2), the face as first detected.
        """
        lean, agreed = _lean(marks), None
        for _ in range(ROUNDS):
            answers = [answer for view in self._views if (answer := self._answer(image, box, lean, view)) is not None]
            if len(answers) < max(len(self._views) * FEWEST, 2):
                return agreed
            agreed = np.asarray(np.median(answers, axis=0), np.float32)
            before, lean = lean, _lean(agreed)
            if abs(lean - before) < LEVEL_DEGREES:
                break
        return agreed

    def _answer(self, image: Shown, box: npt.NDArray[np.float32], lean: float, view: View) -> Floats | None:
        """Landmarks (5, 2) in pixels of the image from one view of a face tilted by `lean` degrees; None if unseen."""
        size = float((box[2:] - box[:2]).max())
        scale = min(view.face_px / max(size, 1.0), MOST_ENLARGED)
        to = np.array([VIEW_PX / 2, VIEW_PX / 2]) + view.off
        middle = (float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2)
        flip = -1 if view.mirrored else 1
        # The rotation applies to the flipped picture.
        turn = flip * -lean + view.degrees
        how = similarity(middle, (float(to[0]), float(to[1])), (flip * scale, scale), turn)
        shown = warped(image, how, VIEW_PX, VIEW_PX, cv2.BORDER_REPLICATE)
        (found,) = self._detector.detect([shown], MIN_SCORE)
        if not len(found):
            return None
        half = size * scale / 2
        expected = np.array([[*(to - half), *(to + half)]], np.float32)
        overlap = iou_matrix(expected, found.boxes)[0]
        best = int(overlap.argmax())
        if overlap[best] < SAME_FACE_IOU:
            return None
        answer = np.asarray(moved(found.landmarks[best], inverse(how)), np.float32)
        return answer[list(MIRRORED)] if view.mirrored else answer


def _lean(marks: Floats) -> float:
    """Tilt of the line through the eyes in degrees, clockwise positive."""
    right, left = marks[0], marks[1]
    return float(np.degrees(np.arctan2(left[1] - right[1], left[0] - right[0])))
