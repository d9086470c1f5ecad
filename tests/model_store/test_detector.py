"""Stored detectors are verified before they are used."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from model_store.bundle import BundleError
from model_store.detector import (
    CARD_FILE,
    DEFAULT_DETECTOR,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    load_detector,
    new_detector,
    write_manifest,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the detector that ships."""
    shutil.copytree(DEFAULT_DETECTOR, tmp_path / "detector")
    return tmp_path / "detector"


def test_the_shipped_detector_is_whole_and_small() -> None:
    """Its tensors are read, it has a card, and the folder is at most a megabyte."""
    stored = load_detector(DEFAULT_DETECTOR)
    assert stored.manifest.name == "default"
    assert all(np.isfinite(tensor).all() for tensor in stored.tensors.values())
    assert stored.manifest.provenance.commit
    assert (DEFAULT_DETECTOR / CARD_FILE).is_file()
    assert sum(file.stat().st_size for file in DEFAULT_DETECTOR.iterdir()) <= 2**20


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_changed_byte_is_noticed(folder: Path, place: int) -> None:
    """Wherever it is; the message names the file and both hashes, in one line."""
    weights = bytearray((folder / WEIGHTS_FILE).read_bytes())
    weights[place] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(weights)
    with pytest.raises(BundleError, match=rf"{WEIGHTS_FILE} is damaged or replaced: .*the manifest says") as error:
        load_detector(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", [MANIFEST_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    """Neither file can be done without."""
    (folder / file).unlink()
    with pytest.raises(BundleError, match=f"{file} cannot be read"):
        load_detector(folder)


def test_weights_outside_the_folder_cannot_be_named(folder: Path) -> None:
    """A manifest cannot make the reader open another path."""
    manifest = folder / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace(WEIGHTS_FILE, "../weights.safetensors"))
    with pytest.raises(BundleError, match=r"weights\.file"):
        load_detector(folder)


def test_a_detector_is_replaced_whole_or_not_at_all(folder: Path) -> None:
    """A failed write leaves the old one; a folder that holds something else is never replaced."""
    stored = load_detector(folder)
    with pytest.raises(OSError, match="no file"), new_detector(folder) as path:
        write_manifest(path / "no file", stored.manifest, "card")
    assert load_detector(folder).manifest == stored.manifest
    folder.rename(folder.parent / f".{folder.name}.replaced")  # killed before the new one was in its place
    assert load_detector(folder).manifest == stored.manifest
    other = folder.parent / "other"
    other.mkdir()
    (other / "bundle.json").write_text("{}")
    with pytest.raises(BundleError, match="not empty"), new_detector(other):
        pass
