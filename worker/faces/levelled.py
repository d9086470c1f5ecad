"""Any detector, asked again about every face with the picture turned until the eyes are level.

Detectors learn from heads that stand upright, and mark the features of leaning ones less well: YuNet puts landmarks of
heads that lean by more than some 15 degrees beside the features.  Slow, several detections a face; a reference for
measuring other detectors by, and for whoever wants landmarks before speed.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from worker.faces import Detector
from worker.geometry import iou_matrix
from worker.records import Detections, Floats, Image

ROUNDS = 4  # detections a face at most
LEVEL_DEGREES = 2.0  # eyes that lean less are level
AROUND = 3.0  # the part of the picture that is turned, in face sizes
VIEW_PX, MOST_ENLARGED = 320, 2.0  # that part is shown in so many pixels, and enlarged at most so much
SAME_FACE_IOU = 0.3
MIN_SCORE = 0.5


class Levelled:
    """Boxes and scores as the detector gives them; landmarks of its answer for the levelled face, mapped back."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.name, self.batch = f"levelled:{detector.name}", detector.batch

    def detect(self, images: Sequence[Image], min_score: float | None) -> list[Detections]:
        """See `Detector.detect`."""
        found = self._detector.detect(images, min_score)
        return [self._levelled(image, faces) for image, faces in zip(images, found, strict=True)]

    def _levelled(self, image: Image, faces: Detections) -> Detections:
        if faces.landmarks is None or not len(faces):
            return faces
        marks = [self._landmarks(image, *face) for face in zip(faces.boxes, faces.landmarks, strict=True)]
        return Detections(faces.boxes, faces.scores, np.array(marks, np.float32))

    def _landmarks(self, image: Image, box: npt.NDArray[np.float32], marks: Floats) -> Floats:
        lean = 0.0  # degrees that the picture is turned by
        answer = marks
        for _ in range(ROUNDS):
            right, left = answer[0], answer[1]
            angle = float(np.degrees(np.arctan2(left[1] - right[1], left[0] - right[0])))
            if abs(angle - lean) < LEVEL_DEGREES:
                break
            lean = angle
            seen = self._answer(image, box, lean)
            if seen is None:
                break
            answer = seen
        return answer

    def _answer(self, image: Image, box: npt.NDArray[np.float32], lean: float) -> Floats | None:
        """Landmarks (5, 2) in the image's pixels, seen with the image turned by so many degrees; None if unseen."""
        x, y = ((box[:2] + box[2:]) / 2).tolist()
        size = float((box[2:] - box[:2]).max())
        scale = min(VIEW_PX / (AROUND * max(size, 1.0)), MOST_ENLARGED)
        turn = cv2.getRotationMatrix2D((x, y), lean, scale)
        turn[:, 2] += np.array([VIEW_PX / 2 - x, VIEW_PX / 2 - y])
        view = cv2.warpAffine(image, turn, (VIEW_PX, VIEW_PX), borderMode=cv2.BORDER_REPLICATE)
        (found,) = self._detector.detect([np.asarray(view, np.uint8)], MIN_SCORE)
        if not len(found) or found.landmarks is None:
            return None
        half = size * scale / 2
        middle = np.array(
            [[VIEW_PX / 2 - half, VIEW_PX / 2 - half, VIEW_PX / 2 + half, VIEW_PX / 2 + half]], np.float32
        )
        overlap = iou_matrix(middle, found.boxes)[0]
        best = int(overlap.argmax())
        if overlap[best] < SAME_FACE_IOU:
            return None
        back = cv2.invertAffineTransform(turn)
        return np.asarray(found.landmarks[best] @ back[:, :2].T + back[:, 2], np.float32)
