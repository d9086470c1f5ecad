"""The look: a small network detects one face in upright views of fixed size, cut from the full-resolution frame.

A network that scans frames is less accurate on tilted heads, and its landmarks vary by 5 to 10 % of the eye distance
with the size and position of the face.  The look rotates the face upright by its known landmarks and takes the median
of several views, so both errors shrink.  A view costs about a hundredth of a scan, so looks also follow faces from
frame to frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from worker.core.affine import MIRRORED, Map, aligning, inverse, moved, size_change, warped
from worker.core.picture import Shown
from worker.core.records import Detections, Floats, Image
from worker.faces.running import Running
from worker.faces.scanning import faces_of

VIEW_PX = 96
# Landmarks of an upright face relative to the centre of its box, in widths of the box.
UPRIGHT = np.array([[-0.2, -0.13], [0.2, -0.13], [0, 0.07], [-0.163, 0.27], [0.163, 0.27]], np.float32)
MOST_OFF = 0.2  # maximum distance of the face's centre from the view's centre, in sides of the view
LOWEST = 0.3  # minimum score of a detection
MOST_VIEWS = 64  # batch size
REDUCE_BELOW = 0.2  # scale below which aliasing affects the network


@dataclass(frozen=True)
class View:
    """The geometry of a view.  face_px: width of the face's box.  degrees: rotation off level.  off: shift from the
    centre, in pixels.  mirrored: flipped left to right."""

    face_px: float
    degrees: float
    off: tuple[float, float]
    mirrored: bool


VIEWS = (
    View(44, -4, (1, -3), mirrored=False),
    View(60, -2, (-2, -2), mirrored=True),
    View(60, 2, (2, 3), mirrored=False),
    View(44, 4, (-3, 2), mirrored=True),
)


class Look:
    """The look with a network on one device."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def at(self, image: Shown, faces: Detections, views: Sequence[View] = VIEWS) -> Detections:
        """The same faces in the same order: medians over the views.  A face that no view shows keeps its box, score 0.

        image: (H, W, 3) uint8 RGB.  faces: approximate, in pixels of the image.
        """
        if not len(faces):
            return faces
        hows = [_showing(faces, i, view) for i in range(len(faces)) for view in views]
        pictures = np.stack([_view(image, how) for how in hows])
        found = [
            answer
            for start in range(0, len(pictures), MOST_VIEWS)
            for answer in faces_of(self._running, pictures[start : start + MOST_VIEWS], LOWEST)
        ]
        boxes, scores = faces.boxes.copy(), np.zeros(len(faces), np.float32)
        landmarks = faces.landmarks.copy()
        for i in range(len(faces)):
            own = range(i * len(views), (i + 1) * len(views))
            seen = [
                seen
                for k, view in zip(own, views, strict=True)
                if (seen := _seen(found[k], hows[k], mirrored=view.mirrored)) is not None
            ]
            if len(seen) == 1:
                ((boxes[i], landmarks[i], _),) = seen
            elif seen:
                boxes[i] = np.median([box for box, _, _ in seen], axis=0)
                landmarks[i] = np.median([marks for _, marks, _ in seen], axis=0)
            if seen:
                scores[i] = sum(score for _, _, score in seen) / len(views)
        return Detections(boxes, scores, landmarks)


def upright_landmarks(boxes: Floats) -> Floats:
    """(N, 5, 2) landmarks of average upright faces in boxes (N, 4) xyxy."""
    middles, widths = (boxes[:, :2] + boxes[:, 2:]) / 2, np.maximum(boxes[:, 2:3] - boxes[:, :1], 1.0)
    return np.asarray(middles[:, None] + UPRIGHT * widths[:, None], np.float32)


def _view(image: Shown, how: Map) -> Image:
    return warped(image, how, VIEW_PX, VIEW_PX, cv2.BORDER_REPLICATE, reduce_below=REDUCE_BELOW)


def _showing(faces: Detections, i: int, view: View) -> Map:
    """The map from the frame to a view of face i."""
    middle = np.array([VIEW_PX / 2, VIEW_PX / 2]) + view.off
    turn = np.deg2rad(view.degrees)
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * view.face_px
    flip = np.diag([-1.0, 1.0]) if view.mirrored else np.eye(2)
    target = np.asarray((UPRIGHT @ flip) @ linear.T + middle, np.float32)
    how = aligning(faces.landmarks[i] @ flip, target)
    if not size_change(how):  # landmarks in a single point carry no information
        how = aligning(upright_landmarks(faces.boxes[i : i + 1])[0] @ flip, target)
    how[:, :2] = how[:, :2] @ flip
    return how


def _seen(answer: Detections, how: Map, *, mirrored: bool) -> tuple[Floats, npt.NDArray[np.float64], float] | None:
    """Box (4,), landmarks (5, 2), both in pixels of the frame, and score of the face at a view's centre, or None."""
    if not len(answer):
        return None
    off = np.abs((answer.boxes[:, :2] + answer.boxes[:, 2:]) / 2 - VIEW_PX / 2).max(axis=1)
    best = int(off.argmin())
    if off[best] > MOST_OFF * VIEW_PX:
        return None
    back = inverse(how)
    box = answer.boxes[best]
    middle = moved(((box[:2] + box[2:]) / 2)[None], back)[0]
    half = (box[2:] - box[:2]) / 2 * size_change(back)
    marks = moved(answer.landmarks[best], back)
    ordered = marks[list(MIRRORED)] if mirrored else marks
    return np.asarray([*(middle - half), *(middle + half)], np.float32), ordered, float(answer.scores[best])
