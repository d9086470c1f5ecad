"""Bundles: what is on disk is verified before it is used, and a new one appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_store.bundle import (
    BUNDLES_DIR,
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    Bundle,
    BundleError,
    NewBundle,
    find_bundle,
    load_bundle,
    read_manifest,
    write_tensors,
    write_whole,
)
from model_store.manifest import Manifest
from worker.inference.bundles import build_ensemble

WriteBundle = Callable[[Path], Manifest]
WEIGHTS = ("backbone.safetensors", "cnn.safetensors", "cnn_rnn.safetensors", "cnn_transformer.safetensors")


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / MANIFEST_FILE
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))


def rename_hash(folder: Path, file: str) -> None:
    """Make the manifest name the hash that `file` has now."""
    sha256 = hashlib.sha256((folder / file).read_bytes()).hexdigest()

    def change(fields: dict[str, Any]) -> None:
        for member in fields["members"]:
            for weights in (member["backbone_weights"], member["head_weights"]):
                if weights["file"] == file:
                    weights["sha256"] = sha256

    change_manifest(folder, change)


def test_a_valid_bundle_loads_with_every_tensor(bundle_folder: Path) -> None:
    """Every file the manifest names is read, a shared one once, and the tensors fill the networks."""
    bundle = load_bundle(bundle_folder)
    assert sorted(bundle.tensors) == sorted(WEIGHTS)
    ensemble = build_ensemble(bundle)
    assert list(ensemble.backbones) == [bundle.manifest.members[0].backbone_weights.sha256]
    assert [member.name for member in ensemble.members] == ["cnn", "cnn_rnn", "cnn_transformer"]
    loaded = ensemble.members[0].head.state_dict()["classifier.weight"].numpy()
    np.testing.assert_array_equal(loaded, bundle.tensors["cnn.safetensors"]["classifier.weight"])


@pytest.mark.parametrize("file", WEIGHTS)
@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_one_changed_byte_is_refused(bundle_folder: Path, file: str, place: float) -> None:
    """A file that differs in one bit from what was hashed is not used, and the message names it."""
    data = bytearray((bundle_folder / file).read_bytes())
    data[int(place * len(data)) if place > 0 else int(place)] ^= 1
    (bundle_folder / file).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{file} is damaged or replaced"):
        load_bundle(bundle_folder)


@pytest.mark.parametrize("file", [*WEIGHTS, MANIFEST_FILE])
def test_a_missing_file_is_named(bundle_folder: Path, file: str) -> None:
    """A bundle that lacks one of its files is refused with that file's name."""
    (bundle_folder / file).unlink()
    with pytest.raises(BundleError, match=rf"{file} cannot be read"):
        load_bundle(bundle_folder)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_is_refused(bundle_folder: Path, version: object) -> None:
    """The format version is checked before anything else of the manifest."""

    def change(fields: dict[str, Any]) -> None:
        fields.clear()
        fields["format_version"] = version

    change_manifest(bundle_folder, change)
    with pytest.raises(BundleError, match="format version"):
        read_manifest(bundle_folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000])
def test_a_manifest_that_is_no_object_is_refused(bundle_folder: Path, text: str) -> None:
    """Broken, nested or foreign JSON is a BundleError, never a crash."""
    (bundle_folder / MANIFEST_FILE).write_text(text)
    with pytest.raises(BundleError, match=MANIFEST_FILE):
        read_manifest(bundle_folder)


def test_a_huge_manifest_is_not_read(bundle_folder: Path) -> None:
    """A manifest above the limit is refused by its size."""
    (bundle_folder / MANIFEST_FILE).write_bytes(b" " * (MAX_MANIFEST_BYTES + 1))
    with pytest.raises(BundleError, match="larger than"):
        read_manifest(bundle_folder)


def test_an_invalid_field_is_named(bundle_folder: Path) -> None:
    """The message names the invalid field of the manifest."""
    change_manifest(bundle_folder, lambda fields: fields["input"].update(size=4))
    with pytest.raises(BundleError, match=r"input\.size"):
        load_bundle(bundle_folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("classifier.bias"), r"lacks 1 tensors .*'classifier\.bias'"),
        (lambda tensors: tensors.update(other=np.zeros(1, np.float32)), "has 1 tensors .*'other'"),
        (lambda tensors: tensors.update({"classifier.bias": np.zeros(4, np.float32)}), "has shape"),
        (lambda tensors: tensors.update({"classifier.bias": np.full(3, np.nan, np.float32)}), "not numbers"),
    ],
)
def test_tensors_must_be_those_of_the_architecture(
    bundle_folder: Path, change: Callable[[dict[str, np.ndarray]], object], message: str
) -> None:
    """A missing, an extra, a wrongly shaped or a non-finite tensor is refused, though its file's hash is right."""
    tensors = dict(load_bundle(bundle_folder).tensors["cnn.safetensors"])
    change(tensors)
    write_tensors(bundle_folder, "cnn.safetensors", tensors)
    rename_hash(bundle_folder, "cnn.safetensors")
    with pytest.raises(BundleError, match=rf"cnn\.safetensors.*{message}"):
        build_ensemble(load_bundle(bundle_folder))


def safetensors_of(dtype: str, data: bytes) -> bytes:
    header = json.dumps({"t": {"dtype": dtype, "shape": [1], "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80\x04.", safetensors_of("F8_E4M3", b"\0"), safetensors_of("F32", b"\0")],
    ids=["empty", "pickle", "unknown dtype", "too short"],
)
def test_a_file_that_is_not_safetensors_is_refused(bundle_folder: Path, data: bytes) -> None:
    """A file with the right hash but no tensors that can be read is a BundleError."""
    (bundle_folder / "cnn.safetensors").write_bytes(data)
    rename_hash(bundle_folder, "cnn.safetensors")
    with pytest.raises(BundleError, match=r"cnn\.safetensors"):
        build_ensemble(load_bundle(bundle_folder))


def test_a_new_bundle_appears_at_once(tmp_path: Path, write_bundle: WriteBundle) -> None:
    """Nothing is at the folder while the bundle is written; at the end it is whole and alone."""
    folder = tmp_path / "deep" / "new"
    with NewBundle(folder) as path:
        write_bundle(path)
        assert not folder.exists()
    assert load_bundle(folder).manifest.name == "tiny"
    assert list(folder.parent.iterdir()) == [folder]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    """When writing fails there is neither a bundle nor what was written of it."""

    def fail() -> None:
        with NewBundle(tmp_path / "new") as path:
            (path / "half").write_bytes(b"x")
            raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_former_bundle(bundle_folder: Path) -> None:
    """A bundle that was to be replaced is whole while its successor fails."""

    def fail() -> None:
        with NewBundle(bundle_folder, replace=True):
            raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        fail()
    assert load_bundle(bundle_folder).manifest.name == "tiny"
    assert list(bundle_folder.parent.iterdir()) == [bundle_folder]


def test_only_bundles_are_replaced(tmp_path: Path, bundle_folder: Path, write_bundle: WriteBundle) -> None:
    """A bundle is replaced only when asked; other folders and files never are."""
    with pytest.raises(BundleError, match="already exists"), NewBundle(bundle_folder):
        pass
    (bundle_folder / "leftover").write_text("of the former one")
    with NewBundle(bundle_folder, replace=True) as path:
        write_bundle(path)
    assert not (bundle_folder / "leftover").exists()
    other = tmp_path / "photographs"
    other.mkdir()
    (other / "one.jpg").write_bytes(b"precious")
    for occupied in (other, other / "one.jpg"):
        with pytest.raises(BundleError, match="already exists"), NewBundle(occupied, replace=True):
            pass
    assert (other / "one.jpg").read_bytes() == b"precious"


@pytest.mark.parametrize("step", [0, 1, 2])
def test_replacing_may_be_cut_short_anywhere(
    bundle_folder: Path, write_bundle: WriteBundle, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Whenever the process is killed, a whole bundle is found, the former or the new one; the next replacing works."""

    class Killed(BaseException):
        pass

    steps = 0

    def counted(name: str, do: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: object, **options: object) -> None:
            nonlocal steps
            if steps == step:
                raise Killed(name)
            steps += 1
            do(*arguments, **options)

        return run

    def replace() -> None:
        with NewBundle(bundle_folder, replace=True) as path:
            write_bundle(path)

    (bundle_folder / "leftover").write_text("of the former one")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counted("replace", os.replace))
        patch.setattr(shutil, "rmtree", counted("rmtree", shutil.rmtree))
        with pytest.raises(Killed):
            replace()
    found = find_bundle(str(bundle_folder))
    assert load_bundle(found).manifest.name == "tiny"
    assert (found / "leftover").exists() == (step < 2)
    with pytest.raises(BundleError, match="already exists"), NewBundle(bundle_folder):
        pass
    replace()
    assert find_bundle(str(bundle_folder)) == bundle_folder
    assert not (bundle_folder / "leftover").exists()
    assert [path for path in bundle_folder.parent.iterdir() if path.name.endswith("replaced")] == []


def test_bundles_are_found_by_name_and_by_path(bundle_folder: Path) -> None:
    """A bare name means one that ships, a path itself; what is neither is refused with the names there are."""
    assert find_bundle("default") == BUNDLES_DIR / "default"
    assert find_bundle(str(bundle_folder)) == bundle_folder
    for wrong in ("nowhere", "", "..", str(bundle_folder / "cnn.safetensors")):
        with pytest.raises(BundleError, match="default"):
            find_bundle(wrong)


def test_the_bundle_that_ships() -> None:
    """The default bundle verifies, answers probabilities of its labels, and takes at most 18 MB with its graphs."""
    folder = find_bundle("default")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 18_000_000
    bundle: Bundle = load_bundle(folder)
    ensemble = build_ensemble(bundle)
    size, channels = bundle.manifest.input.size, bundle.manifest.input.channels
    generator = torch.Generator().manual_seed(0)
    crops = torch.randint(0, 256, (ensemble.window, size, size, channels), dtype=torch.uint8, generator=generator)
    for probabilities in ensemble.window_probabilities(crops).values():
        assert probabilities.shape == (len(ensemble.labels),)
        assert float(probabilities.sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["notes.pkl", "optimiser.pt", "a/b.pth", "weights.ckpt", "harmless.txt", "zipped"])
def test_a_pickle_beside_the_weights_is_refused(bundle_folder: Path, name: str) -> None:
    """A pickle in the folder, known by its name or its first bytes, makes it no bundle; other files may lie there."""
    (bundle_folder / "README.md").write_text("words")
    (bundle_folder / "curve.png").write_bytes(b"\x89PNG")
    load_bundle(bundle_folder)
    path = bundle_folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes({"harmless.txt": b"\x80\x04\x95", "zipped": b"PK\x03\x04archive/data.pkl"}.get(name, b"x"))
    with pytest.raises(BundleError, match=f"{path.name} is a pickle"):
        load_bundle(bundle_folder)


def test_a_file_is_the_former_one_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash while a manifest is written, after hours of training, leaves the one that was there."""
    path = tmp_path / "bundle.json"
    write_whole(path, "former")

    def crash(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new")
    assert path.read_text() == "former"
    monkeypatch.undo()
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
