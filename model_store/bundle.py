"""A bundle on disk: find it, verify it, read its tensors, write a new one.

Every file is read once and hashed before its tensors are parsed from the same bytes, so that it cannot change in
between.  Nothing here unpickles: safetensors files hold numbers only.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from model_store.manifest import FORMAT_VERSION, Manifest, WeightsFile

MANIFEST_FILE = "bundle.json"
BUNDLES_DIR = Path(__file__).parent / "bundles"
MAX_MANIFEST_BYTES = 4 * 2**20
PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"})
PICKLE_MARK = re.compile(rb"\x80[\x02-\x05]")  # magic bytes of pickle protocols 2 to 5
ZIP_MARK = b"PK\x03\x04"

Tensors = dict[str, np.ndarray]
AnyManifest = TypeVar("AnyManifest", bound=BaseModel)


class BundleError(Exception):
    """The bundle is unusable; the message is one sentence with the reason and the file."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: its manifest, and by file name the tensors of weights and the bytes of graphs."""

    manifest: Manifest
    tensors: Mapping[str, Tensors]
    graphs: Mapping[str, bytes]


def find_bundle(name_or_path: str) -> Path:
    """The folder of a bundle, given its path or its name in `model_store/bundles`.

    Raises: BundleError if there is no such folder.
    """
    bare = Path(name_or_path).name == name_or_path and name_or_path not in {"", ".", ".."}
    candidates = [BUNDLES_DIR / name_or_path] if bare else []
    candidates.append(Path(name_or_path))
    for candidate in candidates:
        folder = whole(candidate, MANIFEST_FILE)
        if (folder / MANIFEST_FILE).is_file():
            return folder
    known = ", ".join(sorted(p.parent.name for p in BUNDLES_DIR.glob(f"*/{MANIFEST_FILE}"))) or "none"
    raise BundleError(f"no bundle {name_or_path!r}: neither a folder with {MANIFEST_FILE} nor one of: {known}")


def whole(folder: Path, manifest_file: str) -> Path:
    """The folder, or its backup if `NewBundle` was interrupted after moving the old folder away."""
    aside = _aside(folder)
    return aside if (aside / manifest_file).is_file() and not (folder / manifest_file).is_file() else folder


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the bundle in `folder`.

    Raises: BundleError if it is missing, too large, not JSON, of another format version, or invalid.
    """
    return read_checked(folder / MANIFEST_FILE, Manifest, FORMAT_VERSION)


def read_checked(path: Path, kind: type[AnyManifest], format_version: int) -> AnyManifest:
    """A manifest file as the model `kind`.

    Raises: BundleError if it is missing, too large, not JSON, of another format version, or invalid.
    """
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise BundleError(f"{path} is larger than a manifest may be, {MAX_MANIFEST_BYTES} bytes")
        raw = json.loads(path.read_bytes(), parse_constant=_finite, parse_float=_finite)
        json.dumps(raw, ensure_ascii=False).encode()  # lone surrogates could not be sent to clients
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise BundleError(f"{path} is not JSON") from None
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if version != format_version:
        raise BundleError(f"{path} has format version {version!r}, this release reads {format_version}")
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise BundleError(f"{path}: {where}: {first['msg']}") from None


def _finite(text: str) -> float:
    """A number of the manifest.  Raises: ValueError if it is NaN, infinite or overflows a float."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def load_bundle(folder: Path) -> Bundle:
    """Read and verify the whole bundle.

    Raises: BundleError if the manifest is invalid, a file is missing, its SHA-256 differs from the manifest's, or the
    folder contains a pickle.
    """
    manifest = read_manifest(folder)
    stored, graph_files = weight_files(manifest), manifest.graphs.files if manifest.graphs else ()
    _refuse_pickles(folder, {given.file for given in stored} | {graph.file for graph in graph_files})
    tensors: dict[str, Tensors] = {}
    for given in {given.file: given for given in stored}.values():
        tensors[given.file] = read_verified(folder / given.file, given.sha256)
    graphs = {graph.file: verified_bytes(folder / graph.file, graph.sha256) for graph in graph_files}
    return Bundle(manifest, tensors, graphs)


def verified_bytes(path: Path, sha256: str) -> bytes:
    """Read a file and check its SHA-256.  Raises: BundleError if it is missing or its SHA-256 differs."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise BundleError(f"{path} is damaged or replaced: its SHA-256 is {found}, the manifest says {sha256}")
    return data


def read_verified(path: Path, sha256: str) -> Tensors:
    """Read a safetensors file and check its SHA-256.

    Raises: BundleError if it is missing, its SHA-256 differs, or it is not a safetensors file.
    """
    data = verified_bytes(path, sha256)
    try:
        return load(data)
    except SafetensorError as error:
        raise BundleError(f"{path} is not a safetensors file: {error}") from None
    except KeyError as error:
        raise BundleError(f"{path} has tensors of a dtype that NumPy lacks: {error}") from None


def weight_files(manifest: Manifest) -> list[WeightsFile]:
    """Every file of the manifest, repeated if members share it."""
    return [weights for member in manifest.members for weights in (member.backbone_weights, member.head_weights)]


def write_tensors(folder: Path, file: str, tensors: Mapping[str, np.ndarray]) -> WeightsFile:
    """Write one safetensors file into `folder` and return its name with its SHA-256."""
    data = save({key: np.ascontiguousarray(value) for key, value in tensors.items()})
    (folder / file).write_bytes(data)
    return WeightsFile(file=file, sha256=hashlib.sha256(data).hexdigest())


def write_backbone(out: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a backbone, a starting point of training, as a new safetensors file.

    Raises: BundleError, before writing, if `out` exists or does not end in .safetensors.
    """
    if out.suffix != ".safetensors":
        raise BundleError(f"{out} should end in .safetensors")
    if out.exists():
        raise BundleError(f"{out} already exists; name a new file")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.stem}.part.safetensors")
    try:
        write_tensors(part.parent, part.name, tensors)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `bundle.json`."""
    (folder / MANIFEST_FILE).write_text(_manifest_text(manifest))


def replace_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace `bundle.json` atomically."""
    write_whole(folder / MANIFEST_FILE, _manifest_text(manifest))


def _manifest_text(manifest: Manifest) -> str:
    return manifest.model_dump_json(indent=2) + "\n"


def write_whole(path: Path, text: str) -> None:
    """Write a file atomically: readers see the old or the new content, also after a crash."""
    beside = path.with_name(f".{path.name}.part")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


class NewBundle:
    """Context manager: write into `.path`; on success it is renamed to `folder`, on an error it is removed.

    A bundle that is replaced is first renamed to a backup and removed last, so that one of the two is always complete.
    After an interruption `whole` finds the backup, and the next `NewBundle` restores it.

    Raises: BundleError on entry if `folder` exists and is not an empty folder or a bundle that may be replaced.
    """

    def __init__(self, folder: Path, *, replace: bool = False, manifest_file: str = MANIFEST_FILE) -> None:
        self._folder = folder
        self._replace = replace
        self._manifest_file = manifest_file

    def __enter__(self) -> Path:
        aside = _aside(self._folder)
        if aside.is_dir():
            if self._folder.exists():
                shutil.rmtree(aside)
            else:
                os.replace(aside, self._folder)
        existing = self._folder.exists() and (not self._folder.is_dir() or any(self._folder.iterdir()))
        if existing and not (self._replace and (self._folder / self._manifest_file).is_file()):
            raise BundleError(f"{self._folder} already exists and is not empty; name a new folder")
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix=f".{self._folder.name}.", dir=self._folder.parent))
        return self.path

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            return
        self.path.chmod(0o755)
        aside = _aside(self._folder)
        if self._folder.exists():
            os.replace(self._folder, aside)
        os.replace(self.path, self._folder)
        shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    """The backup of a bundle that is being replaced."""
    return folder.parent / f".{folder.name}.replaced"


def _refuse_pickles(folder: Path, known: Set[str]) -> None:
    """Reject a folder that contains a pickle.  Mien would not open it, but another tool might, and it may be an attack.

    known: the manifest's files, which are verified and read as safetensors.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file() and str(path.relative_to(folder)) not in known:
            with path.open("rb") as file:
                head = file.read(len(ZIP_MARK))
            # PyTorch's files are zips of pickles.
            if path.suffix in PICKLE_SUFFIXES or PICKLE_MARK.match(head) or head == ZIP_MARK:
                raise BundleError(f"{path} is a pickle, or may hold one, and could run code: remove it from the bundle")
