"""`train detector` in miniature: it resumes to the same weights, and what it writes serves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model_store.detector import load_detector, store_weights, write_manifest
from worker.core.records import Detections
from worker.faces.network import DetectorSizes
from worker.inference.detectors import open_detector
from worker.training.detector import validation
from worker.training.detector.command import DetectorOrder, train_detector
from worker.training.detector.refining import ViewBatch
from worker.training.detector.scenes import Scene
from worker.training.detector.settings import detector_settings
from worker.training.detector.task import SceneBatch
from worker.training.detector.validation import choose_threshold, measure_scenes
from worker.training.errors import (
    CheckpointError,
    DataError,
    DeviceTooSmallError,
    Interrupted,
    RecipeError,
    TrainingError,
)
from worker.training.loop import Outcome, Trainer

MINIATURE = (
    "sizes.stem=4,8",
    "sizes.widths=8,8,8",
    "sizes.depths=1,1,1",
    "sizes.neck=8",
    "scenes.sides=64,96",
    "stage.epochs=2",
    "stage.batch=4",
    "refinement.widths=4,4,4,4,4",
    "landmarks.epochs=2",
    "landmarks.batch=4",
    "scenes_an_epoch=8",
    "held_out_portraits=3",
    "held_out_backgrounds=2",
    "loaders=1",
)


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation on a handful."""
    monkeypatch.setattr(validation, "SCENES", 3)
    monkeypatch.setattr(validation, "LONG_SIDE_PX", 160)


def order(data: Path, folder: Path, *, resume: bool = False) -> DetectorOrder:
    return DetectorOrder(detector_settings(MINIATURE), data, None, folder / "out", folder / "run", resume, "cpu")


@pytest.mark.parametrize("stage", ["detector", "landmarks"])
def test_a_resumed_training_ends_at_the_same_weights(
    stage: str, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second epoch of either stage and continued, it writes what an undisturbed one does, and serves."""
    train_detector(order(data_folder, tmp_path / "a"))
    straight = load_detector(tmp_path / "a" / "out")

    steps = Trainer[SceneBatch]._train_step

    def stopping(trainer: Trainer[SceneBatch], wrapped: torch.nn.Module, batch: SceneBatch) -> torch.Tensor:
        loss = steps(trainer, wrapped, batch)
        if (trainer.name, trainer.epoch) == (stage, 1):
            trainer.step += 1
            trainer._save()
            raise Interrupted("stopped")
        return loss

    monkeypatch.setattr(Trainer, "_train_step", stopping)
    with pytest.raises(Interrupted):
        train_detector(order(data_folder, tmp_path / "b"))
    monkeypatch.setattr(Trainer, "_train_step", steps)
    with pytest.raises(CheckpointError, match="--resume"):
        train_detector(order(data_folder, tmp_path / "b"))
    train_detector(order(data_folder, tmp_path / "b", resume=True))
    resumed = load_detector(tmp_path / "b" / "out")

    assert resumed.manifest.weights.sha256 == straight.manifest.weights.sha256
    assert resumed.manifest.min_score == straight.manifest.min_score
    assert straight.manifest.provenance.settings["scenes_an_epoch"] == 8
    assert set(straight.manifest.provenance.data_sha256) == {"detector_faces.npz", "detector_backgrounds.npz"}
    served = open_detector(f"mien:{tmp_path / 'b' / 'out'}", torch.device("cpu"))
    assert len(served.detect([np.zeros((90, 160, 3), np.uint8)], None)) == 1


def test_a_kept_network_gets_exact_landmarks_only(data_folder: Path, tmp_path: Path) -> None:
    """Its weights, sizes, threshold and settings stay, whatever this run's are; where they came from is told."""
    train_detector(order(data_folder, tmp_path / "a"))
    first = load_detector(tmp_path / "a" / "out")
    other = order(data_folder, tmp_path / "b")
    settings = replace(other.settings, seed=5, sizes=DetectorSizes(), scenes_an_epoch=99)
    train_detector(replace(other, settings=settings, network=tmp_path / "a" / "out", name="second"))
    second = load_detector(tmp_path / "b" / "out")
    changed = [key for key in first.tensors if not np.array_equal(first.tensors[key], second.tensors[key])]
    assert changed
    assert all(key.startswith("refinement.") for key in changed)
    assert set(first.tensors) == set(second.tensors)
    manifest, origin = second.manifest, second.manifest.provenance
    assert (manifest.network, manifest.min_score) == (first.manifest.network, first.manifest.min_score)
    assert (origin.settings["scenes_an_epoch"], origin.settings["landmarks"]["epochs"]) == (8, 2)
    assert "kept from default 1" in origin.notes
    assert "--network out" in origin.command
    assert {m.data for m in manifest.measurements} == {
        "held-out portraits, pictures and backgrounds",
        "views of held-out portraits, misplaced at random",
    }


def test_what_is_kept_stays_what_it_is(data_folder: Path, tmp_path: Path) -> None:
    """Size of frames, licence, and the hashes of what it learnt from, also when it is kept a second time."""
    train_detector(order(data_folder, tmp_path / "a"))
    first = load_detector(tmp_path / "a" / "out")
    manifest = first.manifest.model_copy(update={"max_side_px": 960, "licence": "CC BY-NC 4.0"})
    write_manifest(tmp_path / "a" / "out", manifest, "card")
    for before, after in (("a", "b"), ("b", "c")):
        train_detector(replace(order(data_folder, tmp_path / after), network=tmp_path / before / "out"))
    last = load_detector(tmp_path / "c" / "out").manifest
    assert (last.max_side_px, last.licence) == (960, "CC BY-NC 4.0")
    assert set(last.provenance.data_sha256) == {
        "detector_faces.npz",
        "detector_backgrounds.npz",
        "kept: detector_faces.npz",
        "kept: detector_backgrounds.npz",
        "kept: weights",
    }
    assert last.measurements[0] == manifest.measurements[0]
    assert len(last.measurements) == 2


def test_the_second_stage_may_change_once_the_first_is_done(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory there, a smaller batch and --resume do not cost the first stage."""
    run = Trainer[ViewBatch].run

    def failing(trainer: Trainer[ViewBatch]) -> Outcome:
        if trainer.name == "landmarks":
            raise DeviceTooSmallError("lower landmarks.batch")
        return run(trainer)

    monkeypatch.setattr(Trainer, "run", failing)
    with pytest.raises(DeviceTooSmallError):
        train_detector(order(data_folder, tmp_path))
    monkeypatch.setattr(Trainer, "run", run)
    again = order(data_folder, tmp_path, resume=True)
    smaller = replace(again.settings, landmarks=replace(again.settings.landmarks, batch=2))
    train_detector(replace(again, settings=smaller))
    assert load_detector(tmp_path / "out").manifest.provenance.settings["landmarks"]["batch"] == 2


def test_a_network_that_does_not_fit_is_told_at_once(data_folder: Path, tmp_path: Path) -> None:
    """Which part of it, and what of it, in one line."""
    train_detector(order(data_folder, tmp_path))
    stored = load_detector(tmp_path / "out")
    manifest = stored.manifest.model_copy(update={"refinement": None})
    write_manifest(tmp_path / "out", manifest, "card")
    with pytest.raises(TrainingError, match=r"DetectorNet: Unexpected key\(s\).*refinement") as raised:
        train_detector(replace(order(data_folder, tmp_path / "b"), network=tmp_path / "out"))
    assert "\n" not in str(raised.value)
    without = {key: value for key, value in stored.tensors.items() if not key.startswith("refinement.")}
    plain = manifest.model_copy(update={"weights": store_weights(tmp_path / "out", without)})
    write_manifest(tmp_path / "out", plain, "card")
    assert open_detector(f"mien:{tmp_path / 'out'}", torch.device("cpu")).name == "mien"


def test_a_network_that_is_none_is_one_line(data_folder: Path, tmp_path: Path) -> None:
    """Said before anything is trained."""
    with pytest.raises(TrainingError, match="nowhere"):
        train_detector(replace(order(data_folder, tmp_path), network=tmp_path / "nowhere"))


def test_other_data_is_not_resumed(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint belongs to the settings it was made with."""
    train_detector(order(data_folder, tmp_path))
    other = order(data_folder, tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="other settings or other data"):
        train_detector(replace(other, settings=replace(other.settings, seed=2)))


def test_bad_data_and_settings_are_one_line(tmp_path: Path) -> None:
    """Missing files and settings that cannot be are said plainly."""
    with pytest.raises(DataError, match="is not a folder"):
        train_detector(order(tmp_path / "nowhere", tmp_path))
    (tmp_path / "detector_faces.npz").write_bytes(b"no zip")
    (tmp_path / "detector_backgrounds.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match="is not a NumPy"):
        train_detector(order(tmp_path, tmp_path))
    for wrong in (
        "scenes.sides=32",
        "stage.batch=0",
        "landmarks.epochs=0",
        "views.coarsest_px=48",
        "refinement.widths=4,4",
        "refinement.last=2048",
        "scenes.sidez=3",
    ):
        with pytest.raises(RecipeError):
            detector_settings([wrong])


def scored(*scores: float, wide: float = 30) -> Detections:
    boxes = np.array([[0, 0, wide, wide]] * len(scores), np.float32).reshape(-1, 4)
    return Detections(boxes, np.array(scores, np.float32), np.zeros((len(scores), 5, 2), np.float32))


def test_the_threshold_is_the_lowest_that_keeps_faceless_pictures_empty() -> None:
    """Two boxes in a hundred pictures are allowed, a third raises the threshold above it; narrow ones do not count."""
    clean = [scored() for _ in range(98)]
    assert choose_threshold([*clean, scored(0.61), scored(0.7)]) == pytest.approx(0.2)
    assert choose_threshold([*clean, scored(0.61), scored(0.7, 0.43)]) == pytest.approx(0.44)
    assert choose_threshold([*clean, scored(0.61, 0.7), scored(0.43, wide=20)]) == pytest.approx(0.2)


def test_validation_counts_faces_errors_and_false_boxes() -> None:
    """A found face, a missed one, a small one and a box in the void."""
    scene = Scene(np.zeros((200, 200, 3), np.uint8))
    marks = np.array([[10, 10], [20, 10], [15, 15], [12, 20], [18, 20]], np.float32)
    for x, side in ((0, 30), (60, 30), (120, 12)):
        box = np.array([x, 0, x + side, side], np.float32)
        scene.faces.append(np.concatenate([box, (marks + np.array([x, 0])).reshape(-1)]).astype(np.float32))
    boxes = np.array([[0, 0, 30, 30], [120, 0, 132, 12], [150, 150, 190, 190]], np.float32)
    found_marks = np.stack([marks + 1, marks + np.array([120, 0]), marks]).astype(np.float32)
    found = Detections(boxes, np.array([0.9, 0.8, 0.7], np.float32), found_marks)
    figures = measure_scenes([scene], [found], 0.5)
    assert figures["recall"] == 0.5
    assert figures["recall_small"] == 1.0
    assert figures["landmark_error"] == pytest.approx(2**0.5 / 10, rel=1e-3)
    assert figures["false_boxes_a_scene"] == 1.0
