"""Synthetic films whose faces are coloured squares, and a finder that finds exactly these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from worker.core.picture import Shown, whole
from worker.core.records import DecodedFrame, DetectedFrame, Detections, Image
from worker.faces.finding import Finder
from worker.faces.following import Following
from worker.faces.looking import upright_landmarks

FPS = 30
HEIGHT, WIDTH = 180, 320
Scene = Callable[[int], Mapping[int, tuple[int, int, int]]]  # frame -> x, y and side of each face by its number
Backdrop = Callable[[int], Image]


class Squares:
    """Finds squares of red 255; their blue tells them apart.  Notes what it is asked.

    scores: of single squares; 0.9 of the others.
    """

    name, batch = "squares", 1

    def __init__(self, scores: Mapping[int, float] | None = None) -> None:
        self._scores = scores or {}
        self.scans: list[tuple[int, int]] = []  # height and width of each picture that was scanned
        self.sides: list[int | None] = []
        self.looks = 0

    def detect(
        self, images: Sequence[Shown], min_score: float | None, *, frame_side_px: int | None = None
    ) -> list[Detections]:
        self.scans += [(image.shape[0], image.shape[1]) for image in images]
        self.sides += [frame_side_px] * len(images)
        found = [self._found(whole(image)) for image in images]
        return [faces.take(np.flatnonzero(faces.scores >= (min_score or 0.5))) for faces in found]

    def threshold(self, min_score: float | None, share: float) -> float | None:
        return (min_score or 0.5) * share

    def follow(self, image: Shown, faces: Detections, turn: int) -> tuple[Detections, npt.NDArray[np.bool_]]:
        """A square is seen whose middle lies within a third of its side of where it was thought to be."""
        self.looks += 1
        there, boxes, seen = self._found(whole(image)).boxes, faces.boxes.copy(), np.zeros(len(faces), np.bool_)
        for i, box in enumerate(faces.boxes):
            off = np.abs((there[:, :2] + there[:, 2:] - box[:2] - box[2:]) / 2).max(axis=1)
            if len(off) and off.min() <= (box[2] - box[0]) / 3:
                boxes[i], seen[i] = there[int(off.argmin())], True
        return Detections(boxes, faces.scores, upright_landmarks(boxes)), seen

    def _found(self, image: Image) -> Detections:
        numbers = np.unique(image[image[..., 0] == 255][:, 2])
        boxes = []
        for number in numbers:
            ys, xs = np.nonzero((image[..., 0] == 255) & (image[..., 2] == number))
            boxes.append((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
        found = np.array(boxes, np.float32).reshape(-1, 4)
        scores = np.array([self._scores.get(int(number), 0.9) for number in numbers], np.float32)
        return Detections(found, scores, upright_landmarks(found))


def backdrop(seed: int = 0, width: int = WIDTH) -> Image:
    """Soft noise without red."""
    small = np.random.default_rng(seed).integers(40, 200, (9, 16 * width // WIDTH, 3), np.uint8)
    picture = np.asarray(cv2.resize(small, (width, HEIGHT), interpolation=cv2.INTER_LINEAR), np.uint8)
    return picture


def film(
    count: int,
    scene: Scene,
    *,
    fps: float = FPS,
    behind: Backdrop | None = None,
    unreadable: Sequence[int] = (),
) -> list[DecodedFrame]:
    """Frames of the scene.  behind: the backdrop of each frame; the same for all by default."""
    same = backdrop()
    frames = []
    for i in range(count):
        image = (same if behind is None else behind(i)).copy()
        for number, (x, y, side) in scene(i).items():
            image[max(y, 0) : y + side, max(x, 0) : x + side] = (255, 10, number)
        frames.append(DecodedFrame(i, i / fps, None if i in unreadable else image))
    return frames


def truth(scene: Scene, index: int) -> list[list[float]]:
    """Boxes of a frame, sorted."""
    return sorted([float(x), float(y), float(x + side), float(y + side)] for x, y, side in scene(index).values())


def run(
    finder: Squares,
    frames: Sequence[DecodedFrame],
    max_faces: int = 10,
    min_face_px: float = 0,
    min_score: float | None = None,
) -> list[DetectedFrame]:
    found = list(Following(cast(Finder, finder), max_faces, min_face_px, min_score).run(frames))
    assert [detected.frame for detected in found] == list(frames)  # every frame once, in order
    return found


def boxes(detected: DetectedFrame) -> list[list[float]]:
    return sorted(detected.faces.boxes.tolist())


def assert_true(found: Sequence[DetectedFrame], scene: Scene, without: Sequence[int] = ()) -> None:
    for i, detected in enumerate(found):
        expected = [] if i in without else truth(scene, i)
        assert len(detected.faces) == len(expected), i
        assert np.array(boxes(detected)).reshape(-1, 4) == pytest.approx(np.array(expected).reshape(-1, 4), abs=1e-3), i
