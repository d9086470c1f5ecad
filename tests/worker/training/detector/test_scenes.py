"""Composed scenes: faces are where their labels say, and a scene depends on its seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from worker.core.affine import similarity
from worker.core.records import Detections, Image
from worker.training.detector.material import Material, labelled, load_material, split
from worker.training.detector.placing import moved_faces
from worker.training.detector.scenes import Composer, FalseBox, Scene
from worker.training.detector.settings import SceneSettings
from worker.training.errors import DataError

PLAIN = SceneSettings(grey=0, tint=0, covered=0, softened=0, noisy=0, jpeg=0, tilt=0)
FACE = np.array([10, 20, 30, 60, 15, 30, 25, 30, 20, 40, 16, 50, 24, 50], np.float32)


@pytest.fixture(scope="module")
def material(data_folder: Path) -> Material:
    """The miniature's material, without a teacher."""
    return load_material(data_folder, None)


def test_pictures_that_may_hold_people_need_a_teacher(material: Material) -> None:
    """Without one only those with certainly no face are used."""
    assert (len(material.portraits), len(material.faceless), len(material.people)) == (12, 6, 0)


class Teacher:
    """Answers one sure and one doubtful face, in proportion to the picture."""

    name, batch = "teacher", 1

    def detect(self, images: Sequence[Image], min_score: float | None) -> list[Detections]:
        scale = images[0].shape[1] / 320
        boxes = np.array([[10, 10, 50, 60], [100, 10, 150, 60]], np.float32) * scale
        return [Detections(boxes, np.array([0.9, 0.5], np.float32), np.ones((2, 5, 2), np.float32) * scale)]


def test_a_teacher_labels_once_what_it_sees_at_several_scales() -> None:
    """The same face at two scales is one; a doubtful one counts neither way."""
    people = labelled(np.zeros((240, 320, 3), np.uint8), Teacher())
    assert people.faces.shape == (1, 14)
    assert people.faces[0, :4].tolist() == [10, 10, 50, 60]
    assert people.unsure.tolist() == [[100, 10, 150, 60]]


def test_held_out_material_is_never_trained_on(material: Material) -> None:
    """The two parts share nothing; holding out everything is an error."""
    train, held = split(material, 3, 2)
    assert (len(train.portraits), len(held.portraits)) == (9, 3)
    assert (len(train.faceless), len(held.faceless)) == (4, 2)
    with pytest.raises(DataError, match="too few to hold out"):
        split(material, 12, 2)


@pytest.mark.parametrize("degrees", [0.0, 25.0, -40.0])
@pytest.mark.parametrize("mirrored", [1, -1])
def test_landmarks_and_boxes_move_with_the_picture(degrees: float, mirrored: int) -> None:
    """Landmarks follow the map exactly, in the person's order; the box stays around the turned face, upright."""
    how = similarity((20, 40), (100, 80), (mirrored * 2.0, 2.0), degrees)
    (moved,) = moved_faces(FACE[None], how)
    marks = moved[4:].reshape(5, 2)
    own = FACE[4:].reshape(5, 2) @ how[:, :2].T + how[:, 2]
    order = [0, 1, 2, 3, 4] if mirrored == 1 else [1, 0, 2, 4, 3]
    assert marks == pytest.approx(own[order])
    assert (moved[:2] + moved[2:4]) / 2 == pytest.approx([100, 80], abs=1e-4)
    turned = np.deg2rad(degrees)
    width = 2 * np.hypot(20 * np.cos(turned), 40 * np.sin(turned))
    assert moved[2] - moved[0] == pytest.approx(width, rel=1e-4)


@pytest.mark.parametrize("seed", range(12))
def test_faces_are_where_their_labels_are(material: Material, seed: int) -> None:
    """Composed with and without its portraits, a scene differs inside the labelled boxes more than outside."""
    blank = [np.full_like(portrait, 0) for portrait in material.portraits]
    dark = Composer(replace(material, portraits=blank), PLAIN).pasted(np.random.default_rng(seed), 192)
    scene = Composer(material, PLAIN).pasted(np.random.default_rng(seed), 192)
    assert len(scene.faces) + len(scene.unsure) >= 1
    assert len(scene.faces) == len(dark.faces)
    changed = np.abs(scene.image.astype(int) - dark.image).max(axis=2) > 8
    inside = np.zeros_like(changed)
    for box in [face[:4] for face in scene.faces] + scene.unsure:
        x0, y0, x1, y1 = np.clip(np.rint(box), 0, 192).astype(int)
        middle = changed[(y0 * 3 + y1) // 4 : (y0 + y1 * 3) // 4, (x0 * 3 + x1) // 4 : (x0 + x1 * 3) // 4]
        assert middle.size == 0 or middle.mean() > 0.5
        room = (box[2:] - box[:2]) / 2
        (left, top), (right, bottom) = np.maximum(box[:2] - room, 0).astype(int), (box[2:] + room).astype(int)
        inside[top:bottom, left:right] = True
    assert not changed[~inside].any()


def test_a_scene_depends_on_its_seed_alone(material: Material) -> None:
    """The same generator gives the same picture and labels; another gives another."""
    composer = Composer(material, SceneSettings())
    scenes = [composer.scene(np.random.default_rng((1, seed)), 96) for seed in (5, 5, 6)]
    assert np.array_equal(scenes[0].image, scenes[1].image)
    assert np.array_equal(scenes[0].face_rows(), scenes[1].face_rows())
    assert not np.array_equal(scenes[0].image, scenes[2].image)


def test_scenes_of_every_kind_are_whole(material: Material) -> None:
    """Pixels and numbers are of the promised shapes, and labelled faces can be seen and are large enough."""
    composer = Composer(material, SceneSettings(), [FalseBox(0, 30, 30, 20, 2.0)], mined=0.5)
    for seed in range(60):
        scene = composer.scene(np.random.default_rng(seed), 96)
        assert scene.image.shape == (96, 96, 3)
        assert scene.image.dtype == np.uint8
        rows = scene.face_rows()
        assert rows.shape[1:] == (14,)
        assert np.isfinite(rows).all()
        sizes = np.sqrt((rows[:, 2:4] - rows[:, :2]).prod(axis=1))
        assert (sizes >= SceneSettings().smallest_px - 1e-3).all()


def test_empty_scenes_have_no_labels(material: Material) -> None:
    """Decoys and earlier mistakes are not labelled as faces."""
    composer = Composer(material, PLAIN, [FalseBox(1, 50, 60, 30)], mined=0.5)
    scenes = [composer.empty(np.random.default_rng(seed), 96) for seed in range(20)]
    assert not any(scene.faces or scene.unsure for scene in scenes)


def test_cut_off_and_tiny_faces_are_unsure() -> None:
    """Neither found nor missed: nobody should be told that they are no faces."""
    scene = Scene(np.zeros((64, 64, 3), np.uint8))
    rows = np.zeros((3, 14), np.float32)
    rows[:, :4] = [[10, 10, 40, 40], [50, 10, 80, 40], [5, 5, 10, 10]]
    scene.add(rows, smallest_px=9)
    assert [face[:4].tolist() for face in scene.faces] == [[10, 10, 40, 40]]
    assert [box.tolist() for box in scene.unsure] == [[50, 10, 80, 40], [5, 5, 10, 10]]


def test_faces_that_blur_hides_are_unsure() -> None:
    """What nobody can see any more is no face to be found, and none to be missed."""
    scene = Scene(np.zeros((64, 64, 3), np.uint8))
    rows = np.zeros((2, 14), np.float32)
    rows[:, :4] = [[0, 0, 12, 12], [30, 30, 60, 60]]
    scene.add(rows, smallest_px=9)
    scene.keep_visible(18)
    assert [face[:4].tolist() for face in scene.faces] == [[30, 30, 60, 60]]
    assert [box.tolist() for box in scene.unsure] == [[0, 0, 12, 12]]
