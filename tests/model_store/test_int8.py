"""A bundle's graph in 8 bits: made of its weights and some faces, compared on others, served where it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_store.bundle import load_bundle, read_manifest, replace_manifest, write_whole
from model_store.manifest import Graph, GraphFile, Int8, Manifest
from tests.commands import run_here
from worker.core.devices import INT8_FLAGS, cpu_has
from worker.ensemble.precision import PrecisionError
from worker.inference.graphs import add_graphs, open_runtime
from worker.inference.specs import crop_shape
from worker.training.card import model_card
from worker.training.errors import DataError
from worker.training.evaluate import LabelledClips
from worker.training.int8 import make_int8
from worker.training.journal import Journal

Clips = Callable[[int, int], LabelledClips]
needs_vnni = pytest.mark.skipif(not cpu_has(INT8_FLAGS), reason="int8 needs a processor with VNNI")


@pytest.fixture
def folder(bundle_folder: Path) -> Path:
    """A bundle with graphs and a card."""
    add_graphs(bundle_folder)
    write_whole(bundle_folder / "README.md", model_card(read_manifest(bundle_folder)))
    return bundle_folder


@pytest.fixture
def clips(folder: Path) -> Clips:
    """Some crops of noise, each a window of its own, labelled at random; every third is not."""

    def make(seed: int, count: int) -> LabelledClips:
        manifest = read_manifest(folder)
        rng = np.random.default_rng(seed)
        crops = torch.from_numpy(rng.integers(0, 256, (count, *crop_shape(manifest.input)), np.uint8))
        windows = torch.arange(count).unsqueeze(1).expand(-1, manifest.window)
        truth = rng.integers(0, len(manifest.labels), count)
        truth[::3] = -1
        return LabelledClips("faces.npz", lambda: iter(torch.split(crops, 50)), count, windows, {"votes": truth})

    return make


def int8_of(manifest: Manifest) -> tuple[int, float, float | None]:
    assert manifest.graphs is not None
    assert manifest.graphs.int8 is not None
    return manifest.graphs.int8.faces, manifest.graphs.int8.agreement, manifest.graphs.int8.accuracy_change


@needs_vnni
@pytest.mark.parametrize("apart", [True, False])
def test_it_is_compared_on_faces_that_it_was_not_made_with(folder: Path, clips: Clips, apart: bool) -> None:
    """Those of other data, or the others of the same; manifest and card tell the numbers, and a worker serves it."""
    found = make_int8(folder, clips(0, 120), clips(1, 64) if apart else None, Journal(None))
    manifest = load_bundle(folder).manifest
    faces, agreement, change = int8_of(manifest)
    assert faces == (120 if apart else 60)
    assert agreement == found.agreement > 0.9
    assert change is not None
    assert abs(change) < 0.1
    assert (folder / "README.md").read_text() == model_card(manifest)
    assert f"{agreement:.2%} of {faces} faces of faces.npz" in model_card(manifest)
    crops = list(next(iter(clips(2, 9).crops())).numpy())
    plain, quick = (open_runtime(folder, kind, threads=1).encode(crops) for kind in ("fp32", "int8"))
    for name, values in plain.items():
        difference = np.abs(quick[name] - values).max()
        assert 0 < difference < 0.3 * np.abs(values).max()


@needs_vnni
def test_new_graphs_keep_it_only_if_the_weights_are_its_own(folder: Path, clips: Clips) -> None:
    """Made again of the same bundle it stays, made of another one its files go, and the card no longer names it."""
    make_int8(folder, clips(0, 120), None, Journal(None))
    status, _, err = run_here("convert", str(folder))
    assert status == 0, err
    assert int8_of(read_manifest(folder))[0] == 60
    manifest = read_manifest(folder)
    hotter = manifest.members[0].model_copy(update={"temperature": 2.0})
    replace_manifest(folder, manifest.model_copy(update={"members": (hotter, *manifest.members[1:])}))
    write_whole(folder / "README.md", model_card(read_manifest(folder)))
    assert run_here("convert", str(folder))[0] == 0
    graphs = load_bundle(folder).manifest.graphs
    assert graphs is not None
    assert graphs.int8 is None
    assert not list(folder.glob("*int8*"))
    assert "8 bits" not in (folder / "README.md").read_text()


@needs_vnni
def test_a_card_of_its_owner_is_kept(folder: Path, clips: Clips) -> None:
    """Only a card that was generated is generated again."""
    write_whole(folder / "README.md", "mine")
    make_int8(folder, clips(0, 120), None, Journal(None))
    assert (folder / "README.md").read_text() == "mine"


@needs_vnni
def test_too_few_faces_are_refused(folder: Path, clips: Clips) -> None:
    """Before anything is written."""
    before = read_manifest(folder)
    with pytest.raises(DataError, match="20 faces are too few for int8, which needs 32"):
        make_int8(folder, clips(0, 20), None, Journal(None))
    assert read_manifest(folder) == before


def test_a_bundle_without_it_cannot_serve_it(folder: Path) -> None:
    """The message names the command that makes it."""
    with pytest.raises(PrecisionError, match="has no int8 graph: `python -m worker convert` makes one"):
        open_runtime(folder, "int8", threads=1)


@pytest.mark.parametrize(
    ("agreement", "change", "fits"),
    [(0.99, 0.0, True), (0.9899, 0.01, False), (1.0, -0.005, True), (1.0, -0.0051, False), (1.0, None, False)],
)
def test_auto_takes_it_only_if_labels_stay(agreement: float, change: float | None, fits: bool) -> None:
    """At least 0.99 of the labels, at most 0.005 of the accuracy lost, and measured on a thousand faces."""
    file = GraphFile(file="a.xml", sha256="0" * 64)
    graph = Graph(topology=file, constants=file)
    given: dict[str, Any] = {"encoding": graph, "data": "d", "agreement": agreement, "accuracy_change": change}
    assert Int8(faces=1000, **given).is_like_float32 == fits
    assert not Int8(faces=999, **given).is_like_float32
