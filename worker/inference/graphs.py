"""A bundle's graphs for the CPU: made of its networks, stored beside them, read from there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import openvino as ov
import structlog

from model_store.bundle import Bundle, BundleError, load_bundle, read_manifest, replace_manifest
from model_store.manifest import Graph, GraphFile, Graphs, Int8
from worker.core.openvino import read, with_weights
from worker.ensemble.openvino_runtime import OpenVinoRuntime
from worker.ensemble.precision import Precision, PrecisionError
from worker.inference.specs import crop_shape

log = structlog.get_logger(__name__)


def open_runtime(folder: Path, precision: Precision, threads: int) -> OpenVinoRuntime:
    """The bundle's ensemble on the CPU.  Raises: BundleError; PrecisionError for int8 that the bundle lacks."""
    bundle = load_bundle(folder)
    graphs = bundle.manifest.graphs
    if precision == "int8" and (graphs is None or graphs.int8 is None):
        raise PrecisionError(f"{folder} has no int8 graph: `python -m worker convert` makes one, see --data")
    if graphs is None:
        log.info("bundle_without_graphs", hint=f"python -m worker convert {folder} makes starting faster")
        encoding, decoding = _converted(bundle)
    else:
        chosen = graphs.int8.encoding if precision == "int8" and graphs.int8 else graphs.encoding
        encoding, decoding = _read(bundle, chosen), _read(bundle, graphs.decoding)
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
    graphs = Graphs(
        encoding=store_graph(encoding, folder, "encoding"), decoding=store_graph(decoding, folder, "decoding")
    )
    replace_manifest(folder, bundle.manifest.model_copy(update={"graphs": graphs}))


def add_int8(folder: Path, found: Int8) -> None:
    """Tell in the manifest of the encoding graph in 8 bits, which is in the folder.  Raises: BundleError."""
    manifest = read_manifest(folder)
    if manifest.graphs is None:
        raise BundleError(f"{folder} has no graphs yet")
    graphs = manifest.graphs.model_copy(update={"int8": found})
    replace_manifest(folder, manifest.model_copy(update={"graphs": graphs}))


def quantised_runtime(bundle: Bundle, encoding: ov.Model, threads: int) -> OpenVinoRuntime:
    """The bundle's ensemble with that encoding graph in 8 bits."""
    if bundle.manifest.graphs is None:
        raise BundleError(f"{bundle.manifest.name} has no graphs yet")
    decoding = _read(bundle, bundle.manifest.graphs.decoding)
    return OpenVinoRuntime(encoding, decoding, [member.name for member in bundle.manifest.members], "int8", threads)


def store_graph(model: ov.Model, folder: Path, name: str) -> Graph:
    """Write the graph's two files into a bundle's folder."""
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
