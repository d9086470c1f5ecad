"""A bundle's graphs for the CPU: made of its networks, stored beside them, read from there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy.typing as npt
import openvino as ov
import structlog

from model_store.bundle import Bundle, BundleError, load_bundle, read_manifest, replace_manifest
from model_store.manifest import Graph, GraphFile, Graphs, Int8
from worker.core.devices import first_line
from worker.core.openvino import read, with_weights
from worker.ensemble.openvino_runtime import OpenVinoRuntime
from worker.ensemble.precision import Precision, PrecisionError
from worker.inference.specs import crop_shape

log = structlog.get_logger(__name__)


def open_runtime(folder: Path, precision: Precision, threads: int) -> OpenVinoRuntime:
    """The bundle's ensemble on the CPU.

    Raises: BundleError if it is damaged, or its graphs were made of other weights; PrecisionError if it lacks int8.
    """
    bundle = load_bundle(folder)
    graphs = bundle.manifest.graphs
    if graphs is not None and graphs.made_of != bundle.manifest.graph_source:
        raise BundleError(
            f"the graphs of {folder} were made of other weights: make them again, python -m worker convert"
        )
    if precision == "int8" and (graphs is None or graphs.int8 is None):
        raise PrecisionError(f"{folder} has no int8 graph: `python -m worker convert` makes one, see --data")
    try:
        if graphs is None:
            log.info("bundle_without_graphs", hint=f"python -m worker convert {folder} makes starting faster")
            encoding, decoding = _converted(bundle)
        else:
            chosen = graphs.int8.encoding if precision == "int8" and graphs.int8 else graphs.encoding
            encoding, decoding = _read(bundle, chosen), _read(bundle, graphs.decoding)
        return _runtime(bundle, with_weights(encoding, _backbones(bundle)), decoding, precision, threads)
    except (ValueError, RuntimeError) as error:  # OpenVINO's messages have several lines
        raise BundleError(f"OpenVINO cannot compute {folder}: {first_line(error)}") from None


def quantised_runtime(bundle: Bundle, encoding: ov.Model, threads: int) -> OpenVinoRuntime:
    """The bundle's ensemble with that encoding graph in 8 bits.  Raises: BundleError if it has no graphs."""
    if bundle.manifest.graphs is None:
        raise BundleError(f"{bundle.manifest.name} has no graphs yet: `python -m worker convert` makes them")
    return _runtime(bundle, encoding, _read(bundle, bundle.manifest.graphs.decoding), "int8", threads)


def add_graphs(folder: Path) -> None:
    """Make the bundle's graphs and store them in its folder, which nothing else may read meanwhile.

    An int8 graph of the same weights stays, one of others is removed.
    Raises: BundleError, also where the graphs would not compute what the networks do; OSError.
    """
    bundle = load_bundle(folder)
    before, source = bundle.manifest.graphs, bundle.manifest.graph_source
    encoding, decoding = _converted(bundle)
    graphs = Graphs(
        made_of=source,
        encoding=store_graph(encoding, folder, "encoding"),
        decoding=store_graph(decoding, folder, "decoding"),
        int8=before.int8 if before is not None and before.made_of == source else None,
    )
    replace_manifest(folder, bundle.manifest.model_copy(update={"graphs": graphs}))
    for file in {file.file for file in before.files} - {file.file for file in graphs.files} if before else ():
        (folder / file).unlink(missing_ok=True)


def add_int8(folder: Path, found: Int8) -> None:
    """Record in the manifest the int8 encoding graph, whose files are in the folder.  Raises: BundleError."""
    manifest = read_manifest(folder)
    if manifest.graphs is None:
        raise BundleError(f"{folder} has no graphs yet: `python -m worker convert` makes them")
    graphs = manifest.graphs.model_copy(update={"int8": found})
    replace_manifest(folder, manifest.model_copy(update={"graphs": graphs}))


def store_graph(model: ov.Model, folder: Path, name: str) -> Graph:
    """Write the graph's two files into a bundle's folder.  Raises: OSError."""
    topology, constants = folder / f"{name}.xml", folder / f"{name}.bin"
    ov.serialize(model, topology, constants)
    files = [GraphFile(file=f.name, sha256=hashlib.sha256(f.read_bytes()).hexdigest()) for f in (topology, constants)]
    return Graph(topology=files[0], constants=files[1])


def _runtime(
    bundle: Bundle, encoding: ov.Model, decoding: ov.Model, precision: Precision, threads: int
) -> OpenVinoRuntime:
    return OpenVinoRuntime(encoding, decoding, [member.name for member in bundle.manifest.members], precision, threads)


def _backbones(bundle: Bundle) -> dict[str, npt.NDArray[Any]]:
    """The backbones' tensors by the names of the encoding graph's inputs."""
    files = dict.fromkeys(member.backbone_weights for member in bundle.manifest.members)
    return {f"{file.sha256}.{name}": tensor for file in files for name, tensor in bundle.tensors[file.file].items()}


def _converted(bundle: Bundle) -> tuple[ov.Model, ov.Model]:
    from worker.ensemble.conversion import ConversionError, converted  # noqa: PLC0415  # loads torch
    from worker.inference.bundles import build_ensemble  # noqa: PLC0415

    try:
        graphs = converted(build_ensemble(bundle), crop_shape(bundle.manifest.input))
    except (ConversionError, RuntimeError) as error:
        raise BundleError(f"{bundle.manifest.name} cannot be converted for a CPU: {first_line(error)}") from None
    return graphs.encoding, graphs.decoding


def _read(bundle: Bundle, graph: Graph) -> ov.Model:
    topology, constants = graph.topology.file, graph.constants.file
    try:
        return read(bundle.graphs[topology], bundle.graphs[constants])
    except ValueError as error:
        raise BundleError(f"{topology} and {constants} are not a graph that OpenVINO can read: {error}") from None
