"""How well a detector does on held-out data: composed scenes, and pictures without a face.

The score threshold is chosen here, on this data: the lowest at which held-out faceless pictures give at most
`FALSE_BOXES` false boxes each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import nn

from worker.core.boxes import iou_matrix
from worker.core.conv_fusion import fold
from worker.core.records import Detections, Image
from worker.faces.network import DetectorNet, all_cells
from worker.faces.suppression import faces_in
from worker.training.detector.material import Material
from worker.training.detector.scenes import Composer, FalseBox, Scene
from worker.training.detector.settings import SceneSettings
from worker.training.loop import METRIC

SCENES, SIDE = 240, 320
SEED = 77
COUNTED_PX = 24.0  # faces and false boxes at least so wide count
SAME_FACE_IOU = 0.4
FALSE_BOXES = 0.02  # a faceless picture
LOWEST_SCORE, HIGHEST_SCORE = 0.2, 0.9
LONG_SIDE_PX = 640  # faceless pictures are shown at the size that video has
MISTAKE_SCORE = 0.25
BATCH = 8


@dataclass(frozen=True)
class Answers:
    """What a network found: in the scenes, and in the faceless pictures."""

    scenes: list[Detections]
    faceless: list[Detections]


class Validation:
    """Held-out scenes, composed once, and held-out faceless pictures."""

    def __init__(
        self,
        material: Material,
        how: SceneSettings,
        small_bonus: float = 0.0,
        teach: Callable[[Scene], None] | None = None,
    ) -> None:
        how = replace(how, empty=0.0)
        self.small_bonus, self.teach = small_bonus, teach
        composer = Composer(material, how, teach=teach)
        self.scenes: list[Scene] = [composer.scene(np.random.default_rng((SEED, i)), SIDE) for i in range(SCENES)]
        self.faceless = [enlarged(picture) for picture in material.faceless]

    def measure(self, net: DetectorNet, device: torch.device) -> dict[str, float]:
        """Recall and errors at the threshold that this data gives; `challenge_metric` is what epochs compete for."""
        answers = self.answers(net, device)
        threshold = choose_threshold(answers.faceless)
        found = measure_scenes(self.scenes, answers.scenes, threshold)
        false = sum(len(_counted(faces, threshold)) for faces in answers.faceless) / max(len(answers.faceless), 1)
        metric = found["recall"] * 0.7 + found["recall_small"] * 0.3 - found["landmark_error"]
        return {METRIC: metric, "threshold": threshold, "false_boxes_a_picture": false, **found}

    def answers(self, net: DetectorNet, device: torch.device) -> Answers:
        """All faces from a low score on."""
        folded = fold(net).to(device)
        scenes = detect_all(folded, [scene.image for scene in self.scenes], LOWEST_SCORE, device, self.small_bonus)
        return Answers(scenes, detect_all(folded, self.faceless, LOWEST_SCORE, device, self.small_bonus))


@torch.inference_mode()
def detect_all(
    net: nn.Module, images: Sequence[Image], min_score: float, device: torch.device, small_bonus: float = 0.0
) -> list[Detections]:
    """Faces of images as they are; neighbours of one size go through the network together."""
    found: list[Detections] = []
    start = 0
    while start < len(images):
        end = start + 1
        while end < min(len(images), start + BATCH) and images[end].shape == images[start].shape:
            end += 1
        pixels = torch.from_numpy(np.stack(images[start:end])).to(device).permute(0, 3, 1, 2).float() / 255
        height, width = pixels.shape[2:]
        found += faces_in(net(pixels), all_cells(height, width, device), min_score, small_bonus)
        start = end
    return found


def mistakes(net: DetectorNet, faceless: Sequence[Image], device: torch.device) -> list[FalseBox]:
    """Every place where the network sees a face in pictures that have none, in pixels of the picture as given."""
    folded = fold(net).to(device)
    boxes = []
    for i, picture in enumerate(faceless):
        for shown in (1.0, 2.0):
            large = cv2.resize(picture, None, fx=shown, fy=shown, interpolation=cv2.INTER_LINEAR)
            faces = detect_all(folded, [np.asarray(large, np.uint8)], MISTAKE_SCORE, device)[0]
            for box in faces.boxes / np.float32(shown):
                x, y = (box[:2] + box[2:]) / 2
                size = float(np.sqrt(max((box[2:] - box[:2]).prod(), 1.0)))
                boxes.append(FalseBox(i, float(x), float(y), size, shown))
    return boxes


def enlarged(picture: Image) -> Image:
    """The picture with a longer side of 640 pixels."""
    scale = LONG_SIDE_PX / max(picture.shape[:2])
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR), np.uint8)


def choose_threshold(faceless: Sequence[Detections]) -> float:
    """The lowest score, in hundredths, at which faceless pictures give at most `FALSE_BOXES` boxes each."""
    for hundredth in range(round(LOWEST_SCORE * 100), round(HIGHEST_SCORE * 100)):
        threshold = hundredth / 100
        if sum(len(_counted(faces, threshold)) for faces in faceless) <= FALSE_BOXES * len(faceless):
            return threshold
    return HIGHEST_SCORE


def measure_scenes(scenes: Sequence[Scene], found: Sequence[Detections], threshold: float) -> dict[str, float]:
    """Recall of faces of 24 px and more and of smaller ones, false boxes a scene, landmark error in eye distances."""
    hits: list[bool] = []
    small_hits: list[bool] = []
    errors: list[float] = []
    false = 0
    for scene, all_faces in zip(scenes, found, strict=True):
        faces = all_faces.take(np.flatnonzero(all_faces.scores >= threshold))
        rows, unsure = scene.face_rows(), scene.unsure_rows()
        overlap = iou_matrix(rows[:, :4], faces.boxes)  # (N, M)
        best = overlap.argmax(axis=1) if len(faces) else np.zeros(len(rows), np.intp)
        for i, row in enumerate(rows):
            hit = bool(len(faces)) and bool(overlap[i, best[i]] >= SAME_FACE_IOU)
            (hits if row[2] - row[0] >= COUNTED_PX else small_hits).append(hit)
            if hit and row[2] - row[0] >= COUNTED_PX and faces.landmarks is not None:
                marks = row[4:].reshape(5, 2)
                eyes = float(np.hypot(*(marks[0] - marks[1])))
                errors.append(float(np.hypot(*(faces.landmarks[best[i]] - marks).T).mean()) / max(eyes, 1.0))
        known = np.vstack([rows[:, :4], unsure])
        wide = faces.boxes[:, 2] - faces.boxes[:, 0] >= COUNTED_PX
        free = iou_matrix(faces.boxes, known).max(axis=1, initial=0) < 0.1
        false += int((wide & free).sum())
    return {
        "recall": float(np.mean(hits)) if hits else 0.0,
        "recall_small": float(np.mean(small_hits)) if small_hits else 0.0,
        "landmark_error": float(np.mean(errors)) if errors else 1.0,
        "false_boxes_a_scene": false / max(len(scenes), 1),
    }


def _counted(faces: Detections, threshold: float) -> Detections:
    wide = faces.boxes[:, 2] - faces.boxes[:, 0] >= COUNTED_PX
    return faces.take(np.flatnonzero(wide & (faces.scores >= threshold)))
