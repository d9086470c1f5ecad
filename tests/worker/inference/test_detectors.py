"""Which detector serves."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from model_store.bundle import BundleError
from model_store.detector import DETECTORS_DIR, GRAPH_FILE, MANIFEST_FILE, WEIGHTS_FILE
from tests.worker.faces.pictures import portrait, shared
from worker.faces import DetectorError
from worker.inference import detectors
from worker.inference.detectors import DEFAULT, NETWORKS, open_detector, open_finder

CPU = "cpu"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the stored detectors, which serves."""
    shutil.copytree(DETECTORS_DIR, tmp_path / "detectors")
    monkeypatch.setattr(detectors, "DETECTORS_DIR", tmp_path / "detectors")
    return tmp_path / "detectors"


@pytest.mark.parametrize("name", [None, "", DEFAULT])
def test_the_default_serves_where_nothing_is_configured(name: str | None) -> None:
    """Under its name."""
    assert open_finder(name, CPU).name == DEFAULT


@pytest.mark.parametrize("name", [*NETWORKS, "cascade"])
def test_a_name_chooses(name: str) -> None:
    """Every one of them finds the portrait's face, as it is and as the pipeline uses it."""
    for opened in (open_detector(name, CPU), open_finder(name, CPU)):
        assert opened.name == name
        (found,) = opened.detect([portrait()], None)
        assert any(abs(box[0] - 178) < 30 and abs(box[2] - 269) < 30 for box in found.boxes.tolist())


@pytest.mark.parametrize("prefix", ["", "yunet:"])
def test_yunets_file_is_opened_by_its_path(prefix: str) -> None:
    """The operator's own, with or without the name."""
    name = f"{prefix}{shared('models/face_detection_yunet_2023mar.onnx')}"
    for opened in (open_detector(name, CPU), open_finder(name, CPU)):
        assert opened.name == "yunet"
        assert len(opened.detect([portrait()], None)[0]) == 1


@pytest.mark.parametrize("name", ["mien", "mien:/models/my-detector", "levelled:mien"])
def test_a_withdrawn_detector_is_answered_with_those_that_are_there(name: str) -> None:
    """In one line that names each of them."""
    with pytest.raises(DetectorError) as error:
        open_detector(name, CPU)
    message = str(error.value)
    assert all(known in message for known in (DEFAULT, *NETWORKS, "cascade", "ONNX"))
    assert "\n" not in message


@pytest.mark.parametrize("name", ["mien", "mien:/models/my-detector"])
def test_a_withdrawn_detector_does_not_serve(name: str) -> None:
    """Nor anything in its place."""
    with pytest.raises(DetectorError, match=name.partition(":")[0]):
        open_finder(name, CPU)


@pytest.mark.parametrize(
    "name", ["/nowhere/yunet.onnx", "yunet:/nowhere/yunet.onnx", "retina", "levelled:/nowhere.onnx"]
)
def test_a_missing_model_is_an_error_that_names_it(name: str) -> None:
    """Never another detector in its place."""
    with pytest.raises(DetectorError, match=name.partition(":")[2] or name) as error:
        open_detector(name, CPU)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_model_is_an_error_that_names_it(tmp_path: Path) -> None:
    """In one line."""
    path = tmp_path / "yunet.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(DetectorError, match=r"yunet\.onnx") as error:
        open_finder(str(path), CPU)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", [MANIFEST_FILE, WEIGHTS_FILE, GRAPH_FILE])
@pytest.mark.parametrize("network", ["centerface", "yunet"])
def test_a_damaged_default_is_not_replaced_by_another(store: Path, network: str, file: str) -> None:
    """A file cut short, or gone, ends the start with the file's name."""
    path = store / network / file
    data = path.read_bytes()
    path.write_bytes(data[:-2])
    with pytest.raises(BundleError, match=file) as error:
        open_finder(None, CPU)
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(BundleError, match=f"{file} cannot be read"):
        open_finder(None, CPU)


def rewritten(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    """Other weights, whose hash the manifest names."""
    save_file(tensors, folder / WEIGHTS_FILE)
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    manifest["weights"]["sha256"] = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


@pytest.mark.parametrize("fault", ["missing", "more", "shape", "number"])
def test_weights_that_do_not_fit_are_an_error(store: Path, fault: str) -> None:
    """In one line that names the detector, although their hash is right."""
    folder = store / "yunet"
    tensors = load_file(folder / WEIGHTS_FILE)
    kernel = tensors["stem.0.weight"]
    if fault == "missing":
        del tensors["stem.0.weight"]
    elif fault == "more":
        tensors["stem.9.weight"] = kernel
    else:
        tensors["stem.0.weight"] = kernel[:8] if fault == "shape" else kernel.astype(np.float64)
    rewritten(folder, tensors)
    with pytest.raises(BundleError, match="yunet") as error:
        open_finder("yunet", CPU)
    assert "\n" not in str(error.value)
