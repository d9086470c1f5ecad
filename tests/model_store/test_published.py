"""Published checkpoints, filled with known weights, give the published numbers."""

import argparse
import importlib.util
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_store.bundle import BundleError, load_bundle
from model_store.members import MEMBERS
from model_store.published import import_backbone, import_published
from worker.core.records import CroppedFace, CroppedFrame, LabelledFrame
from worker.ensemble.engine import Engine
from worker.ensemble.stream import ClipStream
from worker.inference.bundles import build_ensemble
from worker.inference.graphs import add_graphs, open_runtime
from worker.inference.specs import ensembled

GOLDEN = Path(__file__).parents[1] / "golden"
LOGITS_TOLERANCE, PROBABILITY_TOLERANCE = 2e-3, 1e-4


def _fill(member: str) -> dict[str, torch.Tensor]:
    spec = importlib.util.spec_from_file_location("golden_fill", GOLDEN / "fill.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(GOLDEN / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {key: torch.from_numpy(value) for key, value in module.fill(member).items()}


def _save(path: Path, state: dict[str, Any], prefix: str = "") -> Path:
    content = {
        "args": argparse.Namespace(lr=1),
        "model": {prefix + k: v for k, v in state.items()},
        "optimizer": {},
        "epoch": 3,
    }
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    prefixes = {"cnn": "", "cnn_rnn": "module.", "cnn_transformer": "module."}
    files: dict[str, Path] = {
        member: _save(folder / f"{member}.pth", _fill(member), prefixes[member]) for member in MEMBERS
    }
    import_published(files, "golden", folder / "bundle")
    add_graphs(folder / "bundle")
    for path in files.values():
        path.unlink()
    return folder / "bundle"


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "expected.npz") as data:
        return dict(data)


def test_equal_backbones_become_one_file(bundle: Path) -> None:
    """Three members that share a backbone share its file."""
    assert sorted(p.name for p in bundle.glob("backbone*")) == ["backbone-0.safetensors"]


def test_members_compute_the_published_logits(bundle: Path, expected: dict[str, np.ndarray]) -> None:
    """The plain networks give the published code's logits for every frame's window."""
    ensemble = build_ensemble(load_bundle(bundle))
    frames = torch.from_numpy(expected["frames"])
    with torch.inference_mode():
        for member in ensemble.members:
            features = ensemble.backbones[member.backbone](ensemble.normalise(frames))
            rows = torch.arange(len(frames)).unsqueeze(1) + torch.arange(-4, 5)
            windows = features[rows.clamp(0, len(frames) - 1)]
            logits = member.head(windows)[:, 4] if member.temporal else member.head(features)
            assert np.abs(logits.numpy() - expected[member.name]).max() < LOGITS_TOLERANCE, member.name


@pytest.mark.parametrize("batch", [1, 5, 32])
def test_the_engine_gives_the_published_probabilities(
    bundle: Path, expected: dict[str, np.ndarray], batch: int
) -> None:
    """Streaming, folding and sharing change nothing that the published numbers show, whatever the batch."""
    engine = Engine(ensembled(load_bundle(bundle).manifest), (224, 224, 3), open_runtime(bundle, "fp32", threads=2))
    engine.batch = batch
    frames = [
        CroppedFrame(i, i / 30, (CroppedFace(0, (0, 0, 1, 1), None, crop),), ())
        for i, crop in enumerate(expected["frames"])
    ]
    labelled: list[LabelledFrame] = list(ClipStream(engine, engine.member_names).run(frames))
    engine.close()
    fused = np.stack([frame.fused[0] for frame in labelled])
    assert np.abs(fused - expected["probabilities"]).max() < PROBABILITY_TOLERANCE
    for index, name in enumerate(engine.member_names):
        logits = expected[name] - expected[name].max(axis=1, keepdims=True)
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        got = np.stack([frame.members[index, 0] for frame in labelled])
        assert np.abs(got - probabilities).max() < PROBABILITY_TOLERANCE, name


class _RunsCode:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("code from the file ran",)


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pickle with code, text, missing, extra and misshapen tensors: one sentence each, and nothing is written."""
    good = _fill("cnn")
    bad: dict[str, dict[str, Any]] = {
        "lacks": {k: v for k, v in good.items() if k != "cnn.classifier.bias"},
        "unexpected": good | {"surprise": torch.zeros(1)},
        "expected": good | {"cnn.classifier.bias": torch.zeros(8)},
        "NaN": good | {"cnn.classifier.bias": torch.full((7,), torch.nan)},
    }
    for word, state in bad.items():
        path = _save(tmp_path / "bad.pth", state)
        with pytest.raises(BundleError, match=word):
            import_published({"cnn": path}, "x", tmp_path / "out")
    (tmp_path / "code.pth").write_bytes(pickle.dumps({"model": _RunsCode()}))
    (tmp_path / "text.pth").write_text("not a checkpoint")
    for name in ("code.pth", "text.pth", "absent.pth"):
        with pytest.raises(BundleError):
            import_published({"cnn": tmp_path / name}, "x", tmp_path / "out")
        with pytest.raises(BundleError):
            import_backbone(tmp_path / name, tmp_path / "out.safetensors")
    assert "ran" not in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.pth", "code.pth", "text.pth"]


def test_vggface2_weights_become_a_backbone(tmp_path: Path) -> None:
    """A file like resnet50_ft_dag.pth becomes a safetensors file with the backbone alone."""
    state = {k.removeprefix("cnn."): v for k, v in _fill("cnn").items() if not k.startswith("cnn.classifier")}
    state |= {"classifier.weight": torch.zeros(8631, 2048, 1, 1), "classifier.bias": torch.zeros(8631)}
    torch.save(state, tmp_path / "resnet50_ft_dag.pth")
    import_backbone(tmp_path / "resnet50_ft_dag.pth", tmp_path / "backbone.safetensors")
    from safetensors.numpy import load_file

    kept = load_file(tmp_path / "backbone.safetensors")
    assert np.array_equal(kept["conv1_7x7_s2.weight"], state["conv1_7x7_s2.weight"].numpy())
    assert not any(key.startswith("classifier") for key in kept)
