"""`python -m worker train` and `evaluate`, as their users run them, on generated faces."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from model_store.bundle import load_bundle
from tests.commands import run, run_here, start
from tests.worker.training.portrait_files import write_portraits
from tests.worker.training.teacher_package import random_weights, write_package
from worker.inference.bundles import build_ensemble, module_tensors
from worker.training import teacher
from worker.training.fingerprint import sha256_of
from worker.training.recipes import recipe
from worker.training.static import new_static_net
from worker.training.stills import LABELS, read_stills


def options(settings: list[str]) -> list[str]:
    """`--set` for each."""
    return [word for setting in settings for word in ("--set", setting)]


def weights(bundle: Path) -> dict[str, np.ndarray]:
    """Every tensor of a bundle's files."""
    return {f"{file.name}/{k}": v for file in sorted(bundle.glob("*.safetensors")) for k, v in load_file(file).items()}


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, write_stills: Callable[[Path, int, int], Path], miniature: list[str]
) -> tuple[Path, Path]:
    """A bundle of the default recipe in miniature, and its validation file."""
    folder = tmp_path_factory.mktemp("stills")
    write_stills(folder / "faces_train.npz", 70, 1)
    valid = write_stills(folder / "faces_valid.npz", 35, 2)
    arguments = ["--data", str(folder), "--out", str(folder / "tiny"), "--run-dir", str(folder / "run")]
    status, out, err = run("train", *arguments, *options(miniature), "--device", "cpu")
    assert (status, out) == (0, ""), err
    assert "ferplus: {'accuracy':" in err
    return folder / "tiny", valid


def test_stills_become_a_bundle_that_says_where_it_comes_from(trained: tuple[Path, Path]) -> None:
    """Three members on one backbone, settings, data hashes, honest provenance, measurements, a card, TensorBoard."""
    folder, _ = trained
    bundle = load_bundle(folder)
    manifest = bundle.manifest
    assert [member.name for member in manifest.members] == ["cnn", "cnn_rnn", "cnn_transformer"]
    assert len({member.backbone_weights.sha256 for member in manifest.members}) == 1
    assert manifest.labels == LABELS
    assert manifest.provenance.clips_from_stills
    assert manifest.provenance.settings["static"]["epochs"] == 2
    assert set(manifest.provenance.data_sha256) == {"faces_train.npz", "faces_valid.npz"}
    annotations = {measurement.labels for measurement in manifest.measurements}
    assert {"ferplus", "fer2013", "clips with a quarter of the frames damaged"} <= annotations
    assert "no labelled video" in (folder / "README.md").read_text()
    assert list((folder.parent / "run" / "tensorboard").glob("events*"))


def test_portraits_and_a_teacher_go_into_the_bundle(
    tmp_path: Path,
    write_stills: Callable[[Path, int, int], Path],
    miniature: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The default recipe as it is, but for its sizes: a bundle that serves, and says what it was made from."""
    write_stills(tmp_path / "faces_train.npz", 56, 1)
    write_stills(tmp_path / "faces_valid.npz", 21, 2)
    write_portraits(tmp_path, [k % 7 for k in range(40)])
    package = write_package(tmp_path / "face-api.tgz", random_weights(3))
    monkeypatch.setattr(teacher, "PACKAGE_SHA256", sha256_of(package))
    chosen = ["stills.portraits=0.15", "stills.teacher=0.1", "stills.teacher_beside=0.5", "static.epochs=1"]
    chosen += ["backbone.architecture=mobilenet_v1", "backbone.width=2", "backbone.side=32", "temporal.epochs=1"]
    chosen += ["clips.pool=20", "half_precision=false", "fusion_weights=0.2,0.3,0.5"]
    folder, out = tmp_path / "run", tmp_path / "tiny"
    arguments = ["--data", str(tmp_path), "--out", str(out), "--run-dir", str(folder), "--device", "cpu"]
    command = ["train", *arguments, *options([*miniature, *chosen])]
    status, _, err = run_here(*command)
    assert (status, err.count("name its package with --teacher")) == (1, 1)
    status, _, err = run_here(*command, "--teacher", str(package))
    assert status == 0, err
    manifest = load_bundle(out).manifest
    assert {member.backbone.architecture for member in manifest.members} == {"mobilenet_v1_dense"}
    assert manifest.prior is not None
    assert (manifest.prior.trained, manifest.prior.default) == (0.0, recipe("default").default_prior)
    origin = manifest.provenance
    assert {"detector_faces.npz", "portrait_expressions.npy", "face-api.tgz"} < set(origin.data_sha256)
    assert "muxspace/facial_expressions" in origin.data
    assert "MIT licence, Copyright (c) Vladimir Mandic" in origin.data_terms
    assert "Its weights without the last layer are part of the bundle's backbone." in origin.data_terms
    ensemble = build_ensemble(load_bundle(out))
    window = torch.randint(0, 256, (manifest.window, 16, 16, 1), dtype=torch.uint8)
    for found in ensemble.window_probabilities(window).values():
        assert float(found.sum()) == pytest.approx(1, abs=1e-5)


def test_evaluate_prints_one_json_object_of_the_documented_shape(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """Counts, members and metrics as documented; on stills a temporal member sees the one frame nine times."""
    folder, valid = trained
    arguments = ("evaluate", "--bundle", str(folder), "--data", str(valid), "--json", "--picture", str(tmp_path))
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert set(report) == {"data", "results"}
    assert set(report["results"]) == {"ferplus", "fer2013"}
    found = report["results"]["ferplus"]
    assert found["n"] == 35
    assert set(found["members"]) == {"cnn", "cnn_rnn", "cnn_transformer"}
    for metrics in (found["ensemble"], *found["members"].values()):
        assert set(metrics) == {"accuracy", "macro_f1", "challenge_metric", "ece", "per_class", "confusion"}
        assert set(metrics["per_class"]) == set(LABELS)
        assert np.array(metrics["confusion"]).sum() == 35
    assert len(list(tmp_path.glob("*.png"))) == 4
    ensemble = build_ensemble(load_bundle(folder))
    member = {member.name: member for member in ensemble.members}["cnn_transformer"]
    images = read_stills(valid).images
    crops = torch.nn.functional.interpolate(torch.from_numpy(images[:, None]).float(), (16, 16), mode="area")
    with torch.inference_mode():
        pixels = crops.round().permute(0, 2, 3, 1)
        features = ensemble.backbones[member.backbone](ensemble.normalise(pixels))
        logits = member.head(features.unsqueeze(1).expand(-1, 9, -1))[:, 4]
    accuracy = float((logits.argmax(dim=1).numpy() == read_stills(valid).ferplus).mean())
    assert found["members"]["cnn_transformer"]["accuracy"] == pytest.approx(accuracy, abs=1.5 / 35)


def test_published_recipe_survives_a_kill(
    tmp_path: Path, write_affwild2: Callable[..., Path], miniature_published: list[str]
) -> None:
    """All members on a miniature Aff-Wild2; killed within the run and resumed, it ends at the undisturbed weights."""
    data = write_affwild2(tmp_path / "data", [40, 33, 7], [21, 12])
    common = ["train", "--recipe", "published", "--layout", "affwild2", "--data", str(data), "--name", "mini"]
    common += options([*miniature_published, "static.epochs=3", "temporal.epochs=3"])
    whole = [*common, "--out", str(tmp_path / "whole"), "--run-dir", str(tmp_path / "run-whole")]
    killed = [*common, "--out", str(tmp_path / "killed"), "--run-dir", str(tmp_path / "run-killed")]
    status, _, err = run(*whole)
    assert status == 0, err
    for checkpoint in ("static.last.pt", "temporal-cnn_rnn.last.pt"):
        process = start(*killed, *(["--resume"] if checkpoint != "static.last.pt" else []))
        deadline = time.monotonic() + 100
        while not (tmp_path / "run-killed" / checkpoint).exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (tmp_path / "killed").exists()
    status, _, err = run(*killed, "--resume")
    assert status == 0, err
    assert "resumed at epoch" in err
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[key], other[key]) for key in one)
    manifest = load_bundle(tmp_path / "killed").manifest
    assert [member.fusion_weight for member in manifest.members] == pytest.approx([1 / 3] * 3, abs=1e-3)
    assert [measurement.labels for measurement in manifest.measurements] == ["annotations"]
    assert not manifest.provenance.clips_from_stills
    ensemble = build_ensemble(load_bundle(tmp_path / "killed"))
    found = ensemble.window_probabilities(torch.zeros((9, 32, 32, 3), dtype=torch.uint8))
    assert set(found) == {"cnn", "cnn_rnn", "cnn_transformer"}


def test_default_recipe_trains_on_a_manifest_from_given_backbone_weights(
    tmp_path: Path, write_affwild2: Callable[..., Path], miniature: list[str]
) -> None:
    """A CSV of video frames; the backbone starts from a file, and a file that does not fit is refused."""
    data = write_affwild2(tmp_path / "data", [12, 14], [12])
    rows = ["path,label,video,frame_index,split"]
    for split, name in (("Train_Set", "train"), ("Validation_Set", "validation")):
        for file in sorted((data / "Annotation/annotations/EXPR_Set" / split).glob("*.txt")):
            labels = file.read_text().split()[1:-1]
            folder = f"Cropped_aligned_image/cropped_aligned/{file.stem}"
            rows += [f"{folder}/{k + 1:05d}.jpg,{LABELS[int(v)]},{file.stem},{k},{name}" for k, v in enumerate(labels)]
    (data / "faces.csv").write_text("\n".join(rows))
    net = new_static_net(recipe("default", miniature), len(LABELS), {"label": 1.0})
    save_file(module_tensors(net.backbone), tmp_path / "backbone.safetensors")
    common = ["train", "--layout", "manifest", "--data", str(data / "faces.csv"), *options(miniature)]
    common += ["--backbone", str(tmp_path / "backbone.safetensors"), "--run-dir", str(tmp_path / "run")]
    status, _, err = run(*common, "--out", str(tmp_path / "own"))
    assert status == 0, err
    assert "backbone.safetensors" in load_bundle(tmp_path / "own").manifest.provenance.data_sha256
    other = ["--set", "backbone.widths=8,12", "--run-dir", str(tmp_path / "run2"), "--out", str(tmp_path / "other")]
    status, _, err = run(*common, *other)
    assert status == 1
    assert "does not fit the recipe's backbone" in err
    assert err.count("\n") == 1


def test_interrupting_keeps_a_checkpoint_and_says_how_to_go_on(
    tmp_path: Path, write_stills: Callable[[Path, int, int], Path], miniature: list[str]
) -> None:
    """Ctrl-C ends with one line and a checkpoint; starting again without --resume is refused, not overwritten."""
    data = write_stills(tmp_path / "faces.npz", 70, 1)
    arguments = ["train", "--data", str(data), "--out", str(tmp_path / "b"), "--run-dir", str(tmp_path / "run")]
    arguments += options([*miniature, "static.epochs=2000"])
    process = start(*arguments)
    while not (tmp_path / "run" / "static.last.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith("error: stopped; ")
    assert "--resume" in err.splitlines()[-1]
    status, _, err = run(*arguments)
    assert status == 1
    assert "holds an earlier run" in err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["train", "detector"], 2, "detector"),
        (["evaluate-detector"], 2, "name a clip"),
        (["evaluate-detector", "--marks", "x.json"], 2, "go together"),
        (["evaluate-detector", "--detector", "mien", "x.mp4"], 1, "'mien' was withdrawn"),
        (["evaluate-detector", "--detector", "/nowhere.onnx", "x.mp4"], 1, "no face detector model at /nowhere.onnx"),
        (["train"], 2, "--data and --out are needed"),
        (["train", "--data", "/nowhere", "--out", "/nowhere/x"], 1, "/nowhere does not exist"),
        (["train", "--set", "static.epoch=1", "--show-settings"], 1, "'epoch' is not one of"),
        (["evaluate", "--data", "/nowhere.npz", "--prior", "even"], 2, "should be balanced"),
        (["evaluate", "--data", "/nowhere.npz", "--bundle", "none-such"], 1, "no bundle 'none-such'"),
    ],
)
def test_bad_usage_is_one_clear_line(arguments: list[str], status: int, words: str) -> None:
    """Never a traceback."""
    found, out, err = run_here(*arguments)
    assert (found, out) == (status, "")
    assert words in err
    assert "Traceback" not in err
