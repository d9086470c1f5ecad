"""Composed scenes: many faces of every size on a background, and scenes without any that look as if there were.

A scene's randomness comes from the generator it is given and from nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from worker.core.affine import Map, similarity, warped
from worker.core.records import Floats, Image
from worker.training.detector.decoys import paste_decoy, paste_head, paste_lettering
from worker.training.detector.material import FACE_NUMBERS, Material
from worker.training.detector.pictures import Rng, photographed, random_colour, soft_mask, tinted
from worker.training.detector.placing import moved_boxes, moved_faces, paste
from worker.training.detector.settings import SceneSettings

VISIBLE_SHARE = 0.55  # of a face's box that must lie inside the scene for the face to count
TRIES = 8  # places tried for one face
APART = 1.1  # pasted faces keep this many boxes' room
TIGHT_PX, MOST_ENLARGED = 48, 1.3  # size of tight faces as they are, and how much larger they are shown at most
NARROWEST = 0.62  # width of a narrowed face, as a share of its own


@dataclass(frozen=True)
class FalseBox:
    """Where a network saw a face that is none.

    picture: which faceless one.  x, y, size: centre and size in its pixels.  shown: how much it was enlarged.
    """

    picture: int
    x: float
    y: float
    size: float
    shown: float = 1.0


@dataclass
class Scene:
    """image: (S, S, 3) uint8 RGB.  faces: rows of 14.  unsure: boxes that count neither as faces nor as none."""

    image: Image
    faces: list[npt.NDArray[np.float32]] = field(default_factory=list)
    unsure: list[npt.NDArray[np.float32]] = field(default_factory=list)

    def face_rows(self) -> Floats:
        """(N, 14)."""
        return np.array(self.faces, np.float32).reshape(-1, FACE_NUMBERS)

    def unsure_rows(self) -> Floats:
        """(M, 4)."""
        return np.array(self.unsure, np.float32).reshape(-1, 4)

    def add(self, faces: Floats, smallest_px: float) -> None:
        """Count faces that can be seen; cut-off and tiny ones become unsure."""
        side = self.image.shape[0]
        for face in faces:
            low, high = face[:2], face[2:4]
            inside = np.clip(np.minimum(high, side) - np.maximum(low, 0), 0, None).prod()
            area = max(float((high - low).prod()), 1e-6)
            if inside <= 0:
                continue
            seen = inside / area >= VISIBLE_SHARE and area**0.5 >= smallest_px
            if seen:
                self.faces.append(face)
            else:
                self.unsure.append(face[:4])

    def keep_visible(self, smallest_px: float) -> None:
        """Faces smaller than this can no longer be seen by anybody: they become unsure."""
        small = [_size(face) < smallest_px for face in self.faces]
        self.unsure += [face[:4] for face, is_small in zip(self.faces, small, strict=True) if is_small]
        self.faces = [face for face, is_small in zip(self.faces, small, strict=True) if not is_small]


class Composer:
    """Makes scenes from material.

    false_boxes: what an earlier network got wrong on the faceless pictures.  teach: corrects a scene's labels before
    the scene is photographed.
    """

    def __init__(
        self,
        material: Material,
        how: SceneSettings,
        false_boxes: Sequence[FalseBox] = (),
        mined: float = 0.0,
        teach: Callable[[Scene], None] | None = None,
    ) -> None:
        self.material, self.how, self.teach = material, how, teach
        self.false_boxes, self.mined = false_boxes, mined

    def scene(self, rng: Rng, side: int) -> Scene:
        """A scene of any kind, side x side pixels."""
        how = self.how
        kind = rng.random()
        if kind < how.empty:
            scene = self.empty(rng, side)
        elif kind < how.empty + how.mosaics:
            scene = self.mosaic(rng, side)
        elif kind < how.empty + how.mosaics + how.people and self.material.people:
            scene = self.people(rng, side)
        else:
            scene = self.pasted(rng, side)
        if self.teach is not None:
            self.teach(scene)
        scene.image, softness = photographed(scene.image, rng, how)
        scene.keep_visible(how.smallest_px * softness)
        return scene

    def empty(self, rng: Rng, side: int) -> Scene:
        """No face: a background, or the place of an earlier mistake, often with things pasted that are no faces."""
        if self.false_boxes and rng.random() < self.mined:
            return Scene(self._mistake(rng, side))
        scene = Scene(self._background(rng, side))
        if rng.random() < 0.5:
            for _ in range(int(rng.integers(1, 7))):
                i = int(rng.integers(len(self.material.portraits)))
                size = self._size(rng, side)
                place = (float(rng.uniform(0, side)), float(rng.uniform(0, side)))
                portrait, face = self.material.portraits[i], self.material.faces[i]
                paste_decoy(scene.image, portrait, face, self._map(rng, face, place, size), rng, self.how.tint)
        return scene

    def pasted(self, rng: Rng, side: int) -> Scene:
        """Faces over a background."""
        scene = Scene(self._background(rng, side))
        count = 1 + int(self.how.most_faces * rng.random() ** 1.7)
        sizes = sorted((self._size(rng, side) for _ in range(count)), reverse=True)
        self._paste_faces(scene, rng, sizes)
        return scene

    def mosaic(self, rng: Rng, side: int) -> Scene:
        """A grid of whole portraits, close to each other."""
        scene = Scene(np.full((side, side, 3), random_colour(rng), np.uint8))
        cells = int(rng.choice([1, 1, 2, 2, 3, 4, 5, 7]))
        cell = side / cells
        for row in range(cells):
            for column in range(cells):
                i = int(rng.integers(len(self.material.portraits)))
                portrait, face = self.material.portraits[i], self.material.faces[i]
                height, width = portrait.shape
                scale = cell / max(height, width) * rng.uniform(0.85, 1.3)
                mirrored = -1 if rng.random() < 0.5 else 1
                middle = ((column + 0.5) * cell, (row + 0.5) * cell)
                how = similarity((width / 2, height / 2), middle, (mirrored * scale, scale), rng.normal(0, 6))
                own = Scene(scene.image)
                own.add(moved_faces(face[None], how), self.how.smallest_px)
                low, high = (int(column * cell), int(row * cell)), (int((column + 1) * cell), int((row + 1) * cell))
                window = scene.image[low[1] : high[1], low[0] : high[0]]
                here = how.copy()
                here[:, 2] -= low
                mask = np.full(portrait.shape, 255, np.uint8)
                paste(window, tinted(portrait, rng, self.how.tint), mask, here)
                scene.faces += own.faces
                scene.unsure += own.unsure
        return scene

    def people(self, rng: Rng, side: int) -> Scene:
        """A real picture of people at some scale and tilt, sometimes with more faces pasted where none are."""
        which = self.material.people[int(rng.integers(len(self.material.people)))]
        height, width = which.image.shape[:2]
        scale = side / max(height, width) * np.exp(rng.uniform(-0.9, 0.9))
        middle, to = (width / 2, height / 2), (side / 2, side / 2)
        if len(which.faces) and rng.random() < 0.7:
            face = which.faces[int(rng.integers(len(which.faces)))]
            size = float(np.sqrt((face[2:4] - face[:2]).prod()))
            scale = float(np.clip(self._size(rng, side) / size, 0.25, 3.0))
            middle = (float(face[0] + face[2]) / 2, float(face[1] + face[3]) / 2)
            to = (float(rng.uniform(0.2, 0.8)) * side, float(rng.uniform(0.2, 0.8)) * side)
        mirrored = -1 if rng.random() < 0.5 else 1
        how = similarity(middle, to, (mirrored * scale, scale), self._tilt(rng) * 0.7)
        scene = Scene(self._background(rng, side))
        mask = np.full((height, width), 255, np.uint8)
        paste(scene.image, which.image, mask, how)
        scene.add(moved_faces(which.faces, how), self.how.smallest_px)
        scene.unsure += list(moved_boxes(which.unsure, how))
        return scene

    def _paste_faces(self, scene: Scene, rng: Rng, sizes: Sequence[float]) -> None:
        side = scene.image.shape[0]
        places: list[tuple[Image, npt.NDArray[np.float32], Map, npt.NDArray[np.float32]]] = []
        for size in sizes:
            portrait, face = self._someone(rng, size)
            for _ in range(TRIES):
                place = (float(rng.uniform(0, side)), float(rng.uniform(0, side)))
                how = self._map(rng, face, place, size)
                new = moved_faces(face[None], how)
                if not any(_overlap(new[0], old, APART) for *_, old in places):
                    places.append((portrait, face, how, new[0]))
                    break
        # All shoulders and hair first: they may cover each other, but no labelled face.
        for _, face, how, _ in places:
            if rng.random() < 0.55:
                paste_head(scene.image, face, how, rng)
        for portrait, face, how, new_face in places:
            whole = bool(rng.random() < 0.35)
            mask = soft_mask((portrait.shape[0], portrait.shape[1]), face, rng, whole=whole)
            paste(scene.image, tinted(portrait, rng, self.how.tint), mask, how)
            if rng.random() < self.how.covered:
                self._cover(scene.image, new_face, rng)
            scene.add(new_face[None], self.how.smallest_px)

    def _someone(self, rng: Rng, size: float) -> tuple[Image, npt.NDArray[np.float32]]:
        # A portrait, or a tight face where it would not be enlarged much.
        material = self.material
        if material.tight and size <= MOST_ENLARGED * TIGHT_PX and rng.random() < self.how.tight:
            i = int(rng.integers(len(material.tight)))
            return material.tight[i], material.tight_faces[i]
        i = int(rng.integers(len(material.portraits)))
        return material.portraits[i], material.faces[i]

    def _cover(self, image: Image, face: npt.NDArray[np.float32], rng: Rng) -> None:
        # A hand, a microphone, a scarf: up to a third of the face, from one side.
        low, high = face[:2], face[2:4]
        width, height = high - low
        share = rng.uniform(0.12, 0.36)
        corners = {
            0: (low[0], high[1] - share * height, high[0], high[1]),
            1: (low[0], low[1], low[0] + share * width, high[1]),
            2: (high[0] - share * width, low[1], high[0], high[1]),
            3: (low[0], low[1], high[0], low[1] + share * 0.7 * height),
        }[int(rng.choice(4, p=[0.5, 0.2, 0.2, 0.1]))]
        x0, y0, x1, y1 = np.rint(np.clip(corners, 0, image.shape[0])).astype(int)
        if x1 <= x0 or y1 <= y0:
            return
        if rng.random() < 0.5:
            centre = (int(x0 + x1) // 2, int(y0 + y1) // 2)
            axes = (max(int(x1 - x0) // 2, 1), max(int(y1 - y0) // 2, 1))
            cv2.ellipse(image, centre, axes, 0, 0, 360, random_colour(rng), -1, cv2.LINE_AA)
            return
        texture = self.material.faceless[int(rng.integers(len(self.material.faceless)))]
        image[y0:y1, x0:x1] = cv2.resize(texture, (int(x1 - x0), int(y1 - y0)), interpolation=cv2.INTER_AREA)

    def _background(self, rng: Rng, side: int) -> Image:
        picture = self._surroundings(rng, side)
        if rng.random() < self.how.lettered:
            paste_lettering(picture, rng)
        return picture

    def _surroundings(self, rng: Rng, side: int) -> Image:
        first = self._view(rng, side)
        if rng.random() < 0.2:
            share = rng.uniform(0.25, 0.75)
            return np.asarray(cv2.addWeighted(first, share, self._view(rng, side), 1 - share, 0), np.uint8)
        if rng.random() < 0.06:
            return np.full((side, side, 3), random_colour(rng), np.uint8)
        return first

    def _view(self, rng: Rng, side: int) -> Image:
        picture = self.material.faceless[int(rng.integers(len(self.material.faceless)))]
        height, width = picture.shape[:2]
        scale = side / min(height, width) * np.exp(rng.uniform(-0.6, 0.7))
        look = (float(rng.uniform(0.2, 0.8)) * width, float(rng.uniform(0.2, 0.8)) * height)
        mirrored = -1 if rng.random() < 0.5 else 1
        turn = rng.normal(0, 8) + (90 * rng.integers(4) if rng.random() < 0.15 else 0)
        stretch = np.exp(rng.uniform(-0.15, 0.15))
        how = similarity(look, (side / 2, side / 2), (mirrored * scale * stretch, scale), turn)
        return warped(picture, how, side, side, cv2.BORDER_REFLECT_101)

    def _mistake(self, rng: Rng, side: int) -> Image:
        box = self.false_boxes[int(rng.integers(len(self.false_boxes)))]
        picture = self.material.faceless[box.picture]
        scale = float(np.exp(rng.uniform(-0.4, 0.4))) * box.shown
        mirrored = -1 if rng.random() < 0.5 else 1
        to = (float(rng.uniform(0.2, 0.8)) * side, float(rng.uniform(0.2, 0.8)) * side)
        scale *= min(1.0, side / max(box.size * scale, 1.0))
        how = similarity((box.x, box.y), to, (mirrored * scale, scale), rng.normal(0, 8))
        return warped(picture, how, side, side, cv2.BORDER_REFLECT_101)

    def _size(self, rng: Rng, side: int) -> float:
        low, high = self.how.smallest_px, self.how.largest * side
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    def _tilt(self, rng: Rng) -> float:
        limit = self.how.tilt
        if rng.random() < 0.4:
            return float(rng.uniform(-limit, limit))
        return float(np.clip(rng.normal(0, limit / 4), -limit, limit))

    def _map(self, rng: Rng, face: npt.NDArray[np.float32], place: tuple[float, float], size: float) -> Map:
        centre = (float(face[0] + face[2]) / 2, float(face[1] + face[3]) / 2)
        scale = size / float(np.sqrt((face[2:4] - face[:2]).prod()))
        stretch = float(np.exp(rng.uniform(-0.08, 0.08)))
        if rng.random() < self.how.narrowed:
            stretch *= float(np.sqrt(rng.uniform(NARROWEST, 1)))
        mirrored = -1 if rng.random() < 0.5 else 1
        how = similarity(centre, place, (mirrored * scale * stretch, scale / stretch), 0)
        turn = similarity(place, place, (1, 1), self._tilt(rng))
        return np.hstack([turn[:, :2] @ how[:, :2], (turn[:, :2] @ how[:, 2] + turn[:, 2])[:, None]])


def _size(face: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt(max((face[2:4] - face[:2]).prod(), 0)))


def _overlap(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], room: float) -> bool:
    centre_a, centre_b = (a[:2] + a[2:4]) / 2, (b[:2] + b[2:4]) / 2
    reach = ((a[2:4] - a[:2]) + (b[2:4] - b[:2])) / 2 * room
    return bool((np.abs(centre_a - centre_b) < reach).all())
