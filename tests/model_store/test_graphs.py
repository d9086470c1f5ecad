"""A bundle's graphs for the CPU: made of its weights, verified like them, bound to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_store.bundle import MANIFEST_FILE, BundleError, load_bundle
from tests.commands import run_here
from worker.ensemble.engine import Engine
from worker.ensemble.openvino_runtime import OpenVinoRuntime
from worker.inference.graphs import add_graphs, open_runtime
from worker.inference.specs import crop_shape, ensembled


def change(folder: Path, how: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest's fields."""
    path = folder / MANIFEST_FILE
    fields = json.loads(path.read_text())
    how(fields)
    path.write_text(json.dumps(fields))


def states(folder: Path) -> dict[str, np.ndarray]:
    """The states of some crops."""
    given = load_bundle(folder).manifest.input
    crops = np.random.default_rng(0).integers(0, 256, (9, *crop_shape(given)), np.uint8)
    return open_runtime(folder, "fp32", threads=2).encode(list(crops))


def test_the_command_adds_graphs_that_answer_as_those_made_at_the_start(bundle_folder: Path) -> None:
    """Of an older bundle; again changes nothing; a worker then needs no torch."""
    before = states(bundle_folder)
    files = {path.name for path in bundle_folder.iterdir()}
    for _ in range(2):
        status, _, err = run_here("convert", str(bundle_folder))
        assert (status, err) == (0, f"written: {bundle_folder}\n")
        graphs = load_bundle(bundle_folder).manifest.graphs
        assert graphs is not None
        assert {path.name for path in bundle_folder.iterdir()} == files | {graph.file for graph in graphs.files}
    for name, values in states(bundle_folder).items():
        np.testing.assert_array_equal(values, before[name])


def test_a_folder_that_is_no_bundle_is_one_line(tmp_path: Path) -> None:
    """And is left as it was."""
    (tmp_path / "file").write_text("mine")
    status, _, err = run_here("convert", str(tmp_path))
    assert status == 1
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_damaged_graph_is_refused(bundle_folder: Path) -> None:
    """By its hash, before OpenVINO sees it."""
    add_graphs(bundle_folder)
    for name in ("encoding.xml", "decoding.bin"):
        whole = (bundle_folder / name).read_bytes()
        (bundle_folder / name).write_bytes(whole[:-1] + b"!")
        with pytest.raises(BundleError, match=f"{name} is damaged or replaced"):
            open_runtime(bundle_folder, "fp32", threads=1)
        (bundle_folder / name).write_bytes(whole)


def test_what_is_no_graph_is_refused(bundle_folder: Path) -> None:
    """A file with the right hash that OpenVINO cannot read: one sentence with its name."""
    add_graphs(bundle_folder)
    (bundle_folder / "encoding.xml").write_text("<html></html>")
    sha256 = hashlib.sha256(b"<html></html>").hexdigest()
    change(bundle_folder, lambda fields: fields["graphs"]["encoding"]["topology"].update(sha256=sha256))
    with pytest.raises(BundleError, match=r"^encoding\.xml and encoding\.bin are not a graph that OpenVINO can"):
        open_runtime(bundle_folder, "fp32", threads=1)


@pytest.mark.parametrize("what", ["backbone", "head", "temperature", "order", "window"])
def test_graphs_of_other_weights_are_refused(bundle_folder: Path, what: str) -> None:
    """Whatever they are made of has changed in the manifest, with valid hashes: the message names the remedy."""
    add_graphs(bundle_folder)
    open_runtime(bundle_folder, "fp32", threads=1)
    data = bytearray((bundle_folder / "cnn.safetensors").read_bytes())
    data[-1] ^= 1
    (bundle_folder / "other.safetensors").write_bytes(data)
    other = {"file": "other.safetensors", "sha256": hashlib.sha256(data).hexdigest()}

    def changed(fields: dict[str, Any]) -> None:
        members = fields["members"]
        if what == "backbone":
            for member in members:
                member["backbone_weights"] = other
        elif what == "head":
            members[0]["head_weights"] = other
        elif what == "temperature":
            members[1]["temperature"] = 3.0
        elif what == "order":
            members.reverse()
        else:
            fields["window"] += 2

    change(bundle_folder, changed)
    with pytest.raises(BundleError, match=r"were made of other weights: .* python -m worker convert"):
        open_runtime(bundle_folder, "fp32", threads=1)


def test_weights_of_the_fusion_may_change(bundle_folder: Path) -> None:
    """They are not part of the graphs."""
    add_graphs(bundle_folder)
    change(bundle_folder, lambda fields: fields["members"][0].update(fusion_weight=0.123))
    open_runtime(bundle_folder, "fp32", threads=1)


def test_the_engine_serves_from_a_bundle(bundle_folder: Path) -> None:
    """What the manifest says is what the engine knows."""
    manifest = load_bundle(bundle_folder).manifest
    runtime = open_runtime(bundle_folder, "fp32", threads=1)
    assert isinstance(runtime, OpenVinoRuntime)
    engine = Engine(ensembled(manifest), crop_shape(manifest.input), runtime)
    engine.warm_up()
    assert (engine.mode, engine.labels, engine.window) == ("openvino", manifest.labels, manifest.window)
    assert engine.weights == {member.name: member.fusion_weight for member in manifest.members}
    engine.close()
