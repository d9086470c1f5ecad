"""What scenes are made from: portraits with one labelled face, backgrounds without any, pictures of people.

A face is a row of 14 numbers in pixels of its image: the box x0, y0, x1, y1, then five landmarks x, y in the order of
`worker.core.records`.
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from worker.core.affine import inverse, similarity, warped
from worker.core.boxes import iou_matrix
from worker.core.records import Detections, Floats, Image
from worker.faces import Detector
from worker.training.detector.placing import moved_faces
from worker.training.errors import DataError

FACES_FILE = "detector_faces.npz"
BACKGROUNDS_FILE = "detector_backgrounds.npz"
FACE_NUMBERS = 14
TIGHT_FILE = "ferplus_train.npz"
TIGHT_SCALE, TIGHT_SIDE = 2.0, 160  # how the teacher sees a tight face: enlarged, in the middle of a square
TEACHER_SCALES = (1.0, 2.0)  # backgrounds are small, and so are the faces in them
SURE, UNSURE = 0.75, 0.3  # a face from the first on; between the two nobody says
SAME_FACE_IOU = 0.4
HELD_OUT_PEOPLE = 10  # one of so many pictures of people is held out


@dataclass(frozen=True)
class People:
    """A real picture: (H, W, 3) uint8 RGB, its faces (N, 14), and boxes (M, 4) where nobody says whether one is."""

    image: Image
    faces: Floats
    unsure: Floats


@dataclass(frozen=True)
class Material:
    """portraits: grey (H, W) uint8, each with the row of `faces` (N, 14).  faceless: RGB (H, W, 3) uint8.

    tight: small grey faces without anything around them, each with the row of `tight_faces`.
    """

    portraits: list[Image]
    faces: Floats
    faceless: list[Image]
    people: list[People]
    tight: list[Image]
    tight_faces: Floats


def load_material(folder: Path, teacher: Detector | None) -> Material:
    """Read the files of the data's folder.  Pictures that may hold people, and the faces of `TIGHT_FILE`, where the
    folder has it, are used only if a teacher labels them.

    Raises: DataError if a file is missing or is not what it should be.
    """
    faces = _arrays(folder / FACES_FILE, ("jpeg", "offsets", "faces"))
    backgrounds = _arrays(folder / BACKGROUNDS_FILE, ("jpeg", "offsets", "teacher_score"))
    rows = faces["faces"].astype(np.float32)
    portraits = list(_decoded(faces, cv2.IMREAD_GRAYSCALE, folder / FACES_FILE))
    pictures = list(_decoded(backgrounds, cv2.IMREAD_COLOR_RGB, folder / BACKGROUNDS_FILE))
    scores = backgrounds["teacher_score"]
    if rows.ndim != 2 or rows.shape[1] < FACE_NUMBERS or len(rows) != len(portraits) or len(scores) != len(pictures):
        raise DataError(f"{folder}: images and labels do not fit each other")
    boxes = np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:4]])
    faceless = [picture for picture, score in zip(pictures, scores, strict=True) if score == 0]
    people: list[People] = []
    tight: list[tuple[Image, Floats]] = []
    if teacher is not None:
        people = [labelled(picture, teacher) for picture, score in zip(pictures, scores, strict=True) if score > 0]
        if (folder / TIGHT_FILE).exists():
            tight = list(tight_faces(_arrays(folder / TIGHT_FILE, ("images",))["images"].astype(np.uint8), teacher))
    tight_rows = np.array([row for _, row in tight], np.float32).reshape(-1, FACE_NUMBERS)
    portrait_rows = np.hstack([boxes, rows[:, 4:14]])
    return Material(portraits, portrait_rows, faceless, people, [picture for picture, _ in tight], tight_rows)


def faceless_pictures(path: Path) -> list[Image]:
    """Those of a backgrounds file in which the teacher saw no face.  Raises: DataError."""
    arrays = _arrays(path, ("jpeg", "offsets", "teacher_score"))
    pictures = _decoded(arrays, cv2.IMREAD_COLOR_RGB, path)
    return [picture for picture, score in zip(pictures, arrays["teacher_score"], strict=True) if score == 0]


def split(material: Material, portraits: int, backgrounds: int) -> tuple[Material, Material]:
    """Training and validation: the last so many of each are held out, and every tenth picture of people.

    Raises: DataError if nothing is left to train on.
    """
    if portraits >= len(material.portraits) or backgrounds >= len(material.faceless):
        raise DataError(
            f"{len(material.portraits)} portraits and {len(material.faceless)} backgrounds are too few to hold out "
            f"{portraits} and {backgrounds}"
        )
    cut, back = len(material.portraits) - portraits, len(material.faceless) - backgrounds
    kept = [p for i, p in enumerate(material.people) if i % HELD_OUT_PEOPLE != HELD_OUT_PEOPLE - 1]
    held = material.people[HELD_OUT_PEOPLE - 1 :: HELD_OUT_PEOPLE]
    return (
        replace(
            material,
            portraits=material.portraits[:cut],
            faces=material.faces[:cut],
            faceless=material.faceless[:back],
            people=kept,
        ),
        Material(
            material.portraits[cut:],
            material.faces[cut:],
            material.faceless[back:],
            held,
            [],
            np.zeros((0, FACE_NUMBERS), np.float32),
        ),
    )


def labelled(picture: Image, teacher: Detector) -> People:
    """The teacher's faces in a picture, seen at several scales."""
    found = []
    for scale in TEACHER_SCALES:
        seen = picture if scale == 1 else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        faces = teacher.detect([np.asarray(seen, np.uint8)], UNSURE)[0]
        marks = np.zeros((len(faces), 5, 2), np.float32) if faces.landmarks is None else faces.landmarks
        found.append(Detections(faces.boxes / scale, faces.scores, marks / scale))
    kept: list[npt.NDArray[np.float32]] = []
    for box, score, marks in sorted(_faces(found), key=lambda face: -face[1]):
        others = np.array([row[:4] for row in kept], np.float32).reshape(-1, 4)
        if not kept or iou_matrix(box[None], others).max() < SAME_FACE_IOU:
            kept.append(np.concatenate([box, marks.reshape(-1), [score]]).astype(np.float32))
    rows = np.array(kept, np.float32).reshape(-1, FACE_NUMBERS + 1)
    sure = rows[:, FACE_NUMBERS] >= SURE
    return People(picture, rows[sure, :FACE_NUMBERS], rows[~sure, :4])


def tight_faces(pictures: Iterable[Image], teacher: Detector) -> Iterable[tuple[Image, Floats]]:
    """Of (h, w) uint8 faces, cut from forehead to chin, those that the teacher is sure of, with their rows of 14."""
    for picture in pictures:
        height, width = picture.shape
        middle = (TIGHT_SIDE / 2, TIGHT_SIDE / 2)
        how = similarity((width / 2, height / 2), middle, (TIGHT_SCALE, TIGHT_SCALE), 0)
        view = warped(picture, how, TIGHT_SIDE, TIGHT_SIDE, cv2.BORDER_REPLICATE)
        (found,) = teacher.detect([np.asarray(cv2.cvtColor(view, cv2.COLOR_GRAY2RGB), np.uint8)], SURE)
        if len(found) == 1:
            yield picture, moved_faces(face_rows(found), inverse(how))[0]


def face_rows(found: Detections) -> Floats:
    """(N, 14) from detections with landmarks."""
    assert found.landmarks is not None  # noqa: S101 - a teacher gives them
    return np.hstack([found.boxes, found.landmarks.reshape(-1, 10)]).astype(np.float32).reshape(-1, FACE_NUMBERS)


def _faces(found: list[Detections]) -> Iterable[tuple[Floats, float, Floats]]:
    for faces in found:
        assert faces.landmarks is not None  # noqa: S101 - set by `labelled`
        yield from zip(faces.boxes, faces.scores.tolist(), faces.landmarks, strict=True)


def _arrays(path: Path, names: tuple[str, ...]) -> dict[str, npt.NDArray[np.generic]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except KeyError as error:
        raise DataError(f"{path} has no array {error.args[0]}") from None
    except (OSError, ValueError, zipfile.BadZipFile):
        raise DataError(f"{path} is not a NumPy .npz file") from None


def _decoded(arrays: dict[str, npt.NDArray[np.generic]], how: int, path: Path) -> Iterable[Image]:
    jpeg, offsets = arrays["jpeg"], arrays["offsets"].astype(np.int64)
    for i, (start, end) in enumerate(itertools.pairwise(offsets.tolist())):
        image = cv2.imdecode(jpeg[start:end].astype(np.uint8), how) if end > start else None
        if image is None:
            raise DataError(f"{path}: image {i} cannot be decoded")
        yield np.asarray(image, np.uint8)
