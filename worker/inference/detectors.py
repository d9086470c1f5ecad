"""Selection of the face detector, and its construction from a stored network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from model_store.bundle import BundleError
from model_store.detector import DETECTORS_DIR, Network, load_detector
from worker.core.devices import CPU, is_gpu
from worker.faces import Detector, DetectorError
from worker.faces.cascade import Cascade
from worker.faces.finding import Finder, Judgement
from worker.faces.levelled import Levelled
from worker.faces.looking import Look
from worker.faces.running import Running, Weights, run_on
from worker.faces.scanning import Scanner
from worker.faces.yunet_file import YuNet

DEFAULT = "default"
SCANS, LOOKS = "centerface", "yunet"  # networks of the default
NETWORKS: tuple[str, ...] = get_args(Network)
LEVELLED = "levelled"
WITHDRAWN = "mien"  # a detector trained for earlier versions
GPU_BATCH = 4  # frames in a batch on a GPU


def open_finder(name: str | None, device: str) -> Finder:
    """The pipeline's detector.

    name: `default`, `yunet`, `retinaface`, `centerface`, `cascade`, or YuNet's ONNX file, also as `yunet:FILE`; None
    for the default.

    Raises: DetectorError or BundleError, with one sentence that names the file, if it is unusable.
    """
    name = name or DEFAULT
    # On the CPU: for views of single faces a GPU's launch overhead exceeds the arithmetic.
    looks = _stored(LOOKS, CPU)
    look = Look(looks)
    if name == DEFAULT:
        scans = _stored(SCANS, device)
        second = Look(scans if device == CPU else _stored(SCANS, CPU))
        scanner, parts = Scanner(scans, _batch(device)), Scanner(looks, _batch(CPU))
        return Finder(scanner, look, judgement=Judgement(), second=second, parts=parts, name=DEFAULT)
    published = open_detector(name, device)
    others = name in NETWORKS and name != LOOKS
    return Finder(published, look, second=Look(_stored(name, CPU)) if others else None, name=published.name)


def open_scanners(sides_px: Sequence[int]) -> tuple[Scanner, ...]:
    """The network that scans for the default detector, on the CPU.  sides_px: as `Scanner`'s `max_side_px`.

    Raises: BundleError if its files are missing or damaged.
    """
    scans = _stored(SCANS, CPU)
    return tuple(Scanner(scans, _batch(CPU), side_px) for side_px in sides_px)


def open_detector(name: str, device: str) -> Detector:
    """A detector as published, without a second look, for comparisons.

    name: as for `open_finder`, besides `default`; and `levelled:` with any of these for `Levelled`.
    Raises: see `open_finder`.
    """
    kind, _, rest = name.partition(":")
    if kind == LEVELLED:
        return Levelled(open_detector(rest, device))
    if kind == WITHDRAWN:
        raise DetectorError(
            f"the detector {name!r} was withdrawn; choose one of {', '.join((DEFAULT, *NETWORKS, Cascade.name))}, or"
            " YuNet's ONNX file"
        )
    if name == DEFAULT:
        return open_finder(name, device)
    if name == Cascade.name:
        return Cascade()
    if name in NETWORKS:
        return Scanner(_stored(name, device), _batch(device))
    return YuNet(Path(rest if kind == YuNet.name else name))


def _batch(device: str) -> int:
    return GPU_BATCH if is_gpu(device) else 1


def _stored(name: str, device: str) -> Running:
    stored = load_detector(DETECTORS_DIR / name)
    try:
        return run_on(Weights(stored.manifest.network, stored.tensors, stored.graph), device)
    except RuntimeError as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise BundleError(f"detector {name}: the weights do not fit the network: {reason}") from None
