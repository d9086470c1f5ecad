"""Make a bundle's encoding graph in 8 bits, and measure how often it gives the label of float32."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_store.bundle import load_bundle, read_manifest
from model_store.manifest import Int8, Manifest
from worker.ensemble.conversion import constant_encoding
from worker.ensemble.fusion import fuse_at
from worker.ensemble.openvino_runtime import BATCH, OpenVinoRuntime
from worker.ensemble.precision import require_int8
from worker.inference.bundles import build_ensemble
from worker.inference.graphs import add_int8, open_runtime, quantised_runtime, store_graph
from worker.inference.specs import crop_shape, crop_spec, ensembled
from worker.training import quantising
from worker.training.card import refresh_card
from worker.training.errors import DataError
from worker.training.evaluate import LabelledClips
from worker.training.journal import Journal
from worker.training.labelled import labelled_clips

CALIBRATION = 256  # crops to quantise with
MOST_CROPS = 20_000  # of the data, from its start
WINDOWS = 256  # at once

Crops = npt.NDArray[np.uint8]


def make_int8(folder: Path, data: LabelledClips, calibration: LabelledClips | None, journal: Journal) -> Int8:
    """Quantise the bundle with some crops, compare on others, and store graph and comparison in the bundle.

    calibration: where those crops come from, by default the same data; windows with one of them are not compared.
    Raises: DataError if there are too few crops; PrecisionError on a processor that computes int8 inexactly.
    """
    require_int8()
    bundle = load_bundle(folder)
    crops = _first(data)
    given = crops if calibration is None else _first(calibration)
    chosen = np.linspace(0, len(given) - 1, min(CALIBRATION, len(given) // 2)).astype(int)
    if len(chosen) < quantising.BATCH:
        raise DataError(f"{len(given)} faces are too few for int8, which needs {2 * quantising.BATCH}")
    rows, truth = _compared(data, chosen if calibration is None else chosen[:0], len(crops))
    if not len(rows):
        raise DataError(f"{data.name} has no windows without a face that int8 is made with: name other --calibration")
    journal.say(f"int8: quantising with {len(chosen)} crops")
    encoding = constant_encoding(build_ensemble(bundle), crop_shape(bundle.manifest.input))
    quantising.quantise(encoding, given[chosen])
    quick = _labels(bundle.manifest, quantised_runtime(bundle, encoding, os.cpu_count() or 1), crops, rows)
    plain = _labels(bundle.manifest, open_runtime(folder, "fp32", os.cpu_count() or 1), crops, rows)
    known = truth >= 0
    change = round(float((quick == truth)[known].mean() - (plain == truth)[known].mean()), 4) if known.any() else None
    found = Int8(
        encoding=store_graph(encoding, folder, "encoding-int8"),
        data=Path(data.name).name,
        faces=len(rows),
        agreement=round(float((plain == quick).mean()), 4),
        accuracy_change=change,
    )
    add_int8(folder, found)
    refresh_card(folder, bundle.manifest)
    journal.say(f"int8: the label of float32 on {found.agreement:.2%} of {found.faces} faces, accuracy change {change}")
    return found


def add_int8_from(folder: Path, data: Path, calibration: Path | None, layout: str) -> None:
    """`make_int8` with the data at these paths.  Raises: DataError, PrecisionError, BundleError."""
    manifest = read_manifest(folder)
    given = (crop_spec(manifest.input), manifest.labels, manifest.window)
    clips = labelled_clips(layout, data, *given)
    make_int8(folder, clips, labelled_clips(layout, calibration, *given) if calibration else None, Journal(None))


def _first(data: LabelledClips) -> Crops:
    """(n, size, size, C) uint8, the first crops of the data."""
    kept: list[Crops] = []
    found = 0
    for batch in data.crops():
        kept.append(batch[: MOST_CROPS - found].numpy())
        found += len(kept[-1])
        if found == MOST_CROPS:
            break
    return np.concatenate(kept)


def _compared(data: LabelledClips, chosen: npt.NDArray[np.int64], crops: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Windows (W, T) int64 within the first crops without any of the chosen, and their labels (W,), -1 for none."""
    windows, truth = data.windows.numpy(), next(iter(data.truths.values()))
    kept = (windows.max(axis=1) < crops) & ~np.isin(windows, chosen).any(axis=1)
    return windows[kept], truth[kept]


def _labels(
    manifest: Manifest, runtime: OpenVinoRuntime, crops: Crops, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """crops (N, size, size, C) uint8, rows (W, T) of them -> (W,) the ensemble's label of each window."""
    known = ensembled(manifest)
    weights = np.array(list(known.weights.values()), np.float32)
    states = runtime.join([runtime.encode(list(crops[i : i + BATCH])) for i in range(0, len(crops), BATCH)])
    found = []
    for start in range(0, len(rows), WINDOWS):
        own = runtime.probabilities(states, rows[start : start + WINDOWS])
        found.append(fuse_at(own, weights, known.prior, None)[0].argmax(axis=-1))
    return np.concatenate(found)
