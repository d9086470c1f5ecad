"""A teacher's answer for the very scene is what is learnt, unless it contradicts what is known of a face."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from worker.core.records import Detections, Image
from worker.training.detector.material import TIGHT_FILE, load_material
from worker.training.detector.scenes import Composer, Scene
from worker.training.detector.settings import SceneSettings
from worker.training.detector.teaching import CONTRADICTS, teach

FACE = np.array([20, 20, 60, 70, 32, 38, 48, 38, 40, 48, 34, 58, 46, 58], np.float32)
EYES_PX = 16


class Teacher:
    """Answers the same faces for every picture."""

    name, batch = "teacher", 1

    def __init__(self, *faces: tuple[np.ndarray, float]) -> None:
        self.faces = faces
        self.seen: list[Image] = []

    def detect(self, images: Sequence[Image], min_score: float | None) -> list[Detections]:
        self.seen += [image.copy() for image in images]
        if not self.faces:
            return [Detections.none() for _ in images]
        rows = np.array([face for face, _ in self.faces], np.float32)
        scores = np.array([score for _, score in self.faces], np.float32)
        return [Detections(rows[:, :4], scores, rows[:, 4:].reshape(-1, 5, 2)) for _ in images]


def scene() -> Scene:
    """One known face at `FACE`."""
    return Scene(np.zeros((160, 160, 3), np.uint8), [FACE.copy()])


def moved(x: float, y: float, *, marks: float = 0.0) -> np.ndarray:
    """`FACE` somewhere else; its landmarks higher by so many eye distances."""
    face = FACE + np.tile(np.array([x, y], np.float32), 7)
    face[5::2] -= marks * EYES_PX
    return face


def test_the_answer_for_the_scene_is_learnt() -> None:
    """Box and landmarks are the teacher's where it sees the face that is known."""
    taught = scene()
    answer = moved(2, 1, marks=0.1)
    teach(taught, Teacher((answer, 0.5)))
    assert np.array_equal(taught.face_rows(), answer[None])
    assert not taught.unsure


@pytest.mark.parametrize("answers", [[], [(moved(0, 0, marks=CONTRADICTS + 0.01), 0.9)]])
def test_what_is_known_stays(answers: list[tuple[np.ndarray, float]]) -> None:
    """Where the teacher sees nothing, or puts the landmarks beside the features."""
    taught = scene()
    teach(taught, Teacher(*answers))
    assert np.array_equal(taught.face_rows(), FACE[None])
    assert not taught.unsure


def test_faces_that_nobody_knew_of_count() -> None:
    """A sure one is a face, a doubtful one neither a face nor none."""
    taught = scene()
    sure, doubtful = moved(80, 0), moved(80, 80)
    teach(taught, Teacher((sure, 0.8), (doubtful, 0.5)))
    assert np.array_equal(taught.face_rows(), np.stack([FACE, sure]))
    assert [box.tolist() for box in taught.unsure] == [doubtful[:4].tolist()]


def test_a_composer_asks_its_teacher_before_the_scene_is_photographed(data_folder: Path) -> None:
    """The teacher sees the scene in colour where the network sees it grey; its answers are among the labels."""
    found = moved(30, 20)
    teacher = Teacher((found, 0.9))
    composer = Composer(load_material(data_folder, None), SceneSettings(grey=1), teach=partial(teach, teacher=teacher))
    scenes = [composer.scene(np.random.default_rng(seed), 96) for seed in range(12)]
    assert any(np.array_equal(face, found) for scene in scenes for face in scene.faces)
    assert any(np.ptp(seen, axis=2).max() > 50 for seen in teacher.seen)
    assert all(np.ptp(scene.image, axis=2).max() < 50 for scene in scenes)


def test_tight_faces_are_used_where_the_teacher_is_sure(data_folder: Path, tmp_path: Path) -> None:
    """Labelled in the pixels of the small picture; none without a teacher, or where it sees more than one."""
    for file in data_folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    np.savez(tmp_path / TIGHT_FILE, images=np.zeros((3, 48, 48), np.uint8))
    answer = np.array([40, 36, 120, 128, 64, 70, 96, 70, 80, 88, 66, 104, 94, 104], np.float32)
    material = load_material(tmp_path, Teacher((answer, 0.9)))
    assert len(material.tight) == 3
    # Twice as large, and its middle in the middle of the teacher's view.
    assert material.tight_faces[0] == pytest.approx((answer - 80) / 2 + 24)
    assert not load_material(tmp_path, None).tight
    assert not load_material(tmp_path, Teacher((answer, 0.9), (answer + 60, 0.9))).tight
