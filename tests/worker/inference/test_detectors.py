"""Which detector serves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from worker.faces.yunet import DetectorError

from model_store.bundle import BundleError
from model_store.detector import DEFAULT_DETECTOR, DETECTORS_DIR, MANIFEST_FILE, WEIGHTS_FILE
from worker.inference.detectors import YUNET_FILE, open_detector

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", [None, ""])
def test_ours_serves_where_nothing_is_configured(name: str | None) -> None:
    """Without a setting and without an operator's file it is the one that ships."""
    if (DETECTORS_DIR / YUNET_FILE).is_file():
        pytest.skip("the model store has YuNet, which then serves")
    assert open_detector(name, CPU).name == "mien"


@pytest.mark.parametrize("name", ["mien", "cascade"])
def test_a_name_chooses(name: str) -> None:
    """Either can be asked for."""
    assert open_detector(name, CPU).name == name


def test_ones_own_training_serves_from_its_folder(tmp_path: Path) -> None:
    """A folder that `train detector` wrote is named after a colon."""
    shutil.copytree(DEFAULT_DETECTOR, tmp_path / "mine")
    assert open_detector(f"mien:{tmp_path / 'mine'}", CPU).name == "mien"


@pytest.mark.parametrize("name", ["yunet:/nowhere/yunet.onnx", "/nowhere/yunet.onnx", "retina"])
def test_a_missing_model_is_an_error_that_names_it(name: str) -> None:
    """Never another detector in its place."""
    with pytest.raises(DetectorError, match=name.removeprefix("yunet:")):
        open_detector(name, CPU)


def test_weights_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    """A manifest that names other sizes than the weights have is refused in one line."""
    folder = tmp_path / "odd"
    shutil.copytree(DEFAULT_DETECTOR, folder)
    manifest = folder / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace('"neck": 48', '"neck": 40'))
    with pytest.raises(BundleError, match="do not fit the manifest") as error:
        open_detector(f"mien:{folder}", CPU)
    assert "\n" not in str(error.value)


def test_a_damaged_shipped_detector_is_not_replaced_by_the_cascade(tmp_path: Path) -> None:
    """A byte changed in the weights ends the start, with the file's name."""
    folder = tmp_path / "damaged"
    shutil.copytree(DEFAULT_DETECTOR, folder)
    weights = bytearray((folder / WEIGHTS_FILE).read_bytes())
    weights[-1] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(weights)
    with pytest.raises(BundleError, match=WEIGHTS_FILE):
        open_detector(f"mien:{folder}", CPU)
