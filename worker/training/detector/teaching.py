"""What a teacher says of composed scenes.

Portraits carry the labels that the teacher gave them as they are: cut at the chin, upright, large.  In a scene the same
face is small, turned or half covered, has something around it, and the teacher answers otherwise.  Its answer for the
very scene is what a frame of a video would get, so that is what is learnt; the portrait's label stays where the teacher
does not find the face, or contradicts what is known of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from worker.core.boxes import iou_matrix
from worker.faces import Detector
from worker.training.detector.material import SURE, UNSURE, face_rows
from worker.training.detector.scenes import Scene

SAME_FACE_IOU = 0.5
NEAR_IOU = 0.2  # what overlaps a known face more is no other face
# Mean distance of landmarks in eye distances.  Of heads that lean by more than some 15 degrees the teacher often marks
# places beside the features; the portrait's own, turned with the picture, are right there.
CONTRADICTS = 0.3


def teach(scene: Scene, teacher: Detector) -> None:
    """Correct the labels of a scene by the teacher's answers for it; changes the scene."""
    (found,) = teacher.detect([scene.image], UNSURE)
    if not len(found) or found.landmarks is None:
        return
    answers = face_rows(found)
    known = np.vstack([scene.face_rows()[:, :4], scene.unsure_rows()])
    overlap = iou_matrix(scene.face_rows()[:, :4], found.boxes)  # (N, M)
    for i, face in enumerate(scene.faces):
        best = int(overlap[i].argmax())
        if overlap[i, best] >= SAME_FACE_IOU and landmark_distance(answers[best], face) < CONTRADICTS:
            scene.faces[i] = answers[best]
    alone = iou_matrix(found.boxes, known).max(axis=1, initial=0) < NEAR_IOU
    for answer, score in zip(answers[alone], found.scores[alone], strict=True):
        if score >= SURE:
            scene.faces.append(answer)
        else:
            scene.unsure.append(answer[:4])


def landmark_distance(answer: npt.NDArray[np.float32], face: npt.NDArray[np.float32]) -> float:
    """Mean distance of two faces' landmarks, rows of 14, in eye distances of the second."""
    marks, known = answer[4:].reshape(5, 2), face[4:].reshape(5, 2)
    eyes = max(float(np.hypot(*(known[0] - known[1]))), 1.0)
    return float(np.hypot(*(marks - known).T).mean()) / eyes
