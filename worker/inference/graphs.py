"""A bundle's graphs for the CPU: made of its networks, stored beside them, read from there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import openvino as ov
import structlog

from model_store.bundle import Bundle, BundleError, load_bundle, replace_manifest
from model_store.manifest import Graph, GraphFile, Graphs
from worker.core.openvino import read, with_weights
from worker.ensemble.openvino_runtime import OpenVinoRuntime
from worker.ensemble.precision import Precision
from worker.inference.specs import crop_shape

log = structlog.get_logger(__name__)


def open_runtime(folder: Path, precision: Precision, threads: int) -> OpenVinoRuntime:
    """The bundle's ensemble on the CPU.  Raises: BundleError."""
    bundle = load_bundle(folder)
    graphs = bundle.manifest.graphs
    if graphs is None:
        log.info("bundle_without_graphs", hint=f"python -m worker convert {folder} makes starting faster")
        encoding, decoding = _converted(bundle)
    else:
        encoding, decoding = _read(bundle, graphs.encoding), _read(bundle, graphs.decoding)
    weights = {
        f"{file.sha256}.{name}": tensor
        for file in dict.fromkeys(member.backbone_weights for member in bundle.manifest.members)
        for name, tensor in bundle.tensors[file.file].items()
    }
    try:
        encoding = with_weights(encoding, weights)
    except ValueError as error:
        raise BundleError(f"{folder}: {error}") from None
    members = [member.name for member in bundle.manifest.members]
    return OpenVinoRuntime(encoding, decoding, members, precision, threads)


def add_graphs(folder: Path) -> None:
    """Make the bundle's graphs and store them in its folder, which nothing else may read meanwhile.

    Raises: BundleError, also where the graphs would not compute what the networks do.
    """
    bundle = load_bundle(folder)
    encoding, decoding = _converted(bundle)
    graphs = Graphs(encoding=_stored(encoding, folder, "encoding"), decoding=_stored(decoding, folder, "decoding"))
    replace_manifest(folder, bundle.manifest.model_copy(update={"graphs": graphs}))


def _stored(model: ov.Model, folder: Path, name: str) -> Graph:
    topology, constants = folder / f"{name}.xml", folder / f"{name}.bin"
    ov.serialize(model, topology, constants)
    files = [GraphFile(file=f.name, sha256=hashlib.sha256(f.read_bytes()).hexdigest()) for f in (topology, constants)]
    return Graph(topology=files[0], constants=files[1])


def _converted(bundle: Bundle) -> tuple[ov.Model, ov.Model]:
    from worker.ensemble.conversion import ConversionError, converted  # noqa: PLC0415  # loads torch
    from worker.inference.bundles import build_ensemble  # noqa: PLC0415

    try:
        graphs = converted(build_ensemble(bundle), crop_shape(bundle.manifest.input))
    except ConversionError as error:
        raise BundleError(f"{bundle.manifest.name}: {error}") from None
    return graphs.encoding, graphs.decoding


def _read(bundle: Bundle, graph: Graph) -> ov.Model:
    topology, constants = graph.topology.file, graph.constants.file
    try:
        return read(bundle.graphs[topology], bundle.graphs[constants])
    except ValueError as error:
        raise BundleError(f"{topology} and {constants} are no graph that OpenVINO reads: {error}") from None
