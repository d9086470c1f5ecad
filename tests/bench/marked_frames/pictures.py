"""Where a picture comes from, and its pixels: BGR, (H, W, 3) uint8."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import skimage

from tests.bench.marked_frames.packages import PACKAGES, Packages

SAMPLE_LICENCE = "BSD-3-Clause (data: public domain/CC0, see skimage data README)"
SHARED_LICENCE = "not for redistribution (see the folder's README)"

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """A picture in a package."""

    package: str
    member: str


@dataclass(frozen=True)
class Clip:
    """A frame of a clip in a package; the first is 0."""

    package: str
    member: str
    frame: int


@dataclass(frozen=True)
class Sample:
    """A picture that is installed with scikit-image."""

    file: str


@dataclass(frozen=True)
class SharedClip:
    """A frame of a clip in the folder `videos` of the shared folder, which cannot be downloaded."""

    clip: str
    frame: int


Source = Picture | Clip | Sample | SharedClip


class Pictures:
    """Reads pictures by name, each once.  shared: the shared folder, if there is one."""

    def __init__(self, table: dict[str, Source], packages: Packages, shared: Path | None) -> None:
        self._table, self._packages, self._shared = table, packages, shared
        self._read: dict[str, Image] = {}

    def __call__(self, name: str) -> Image:
        """Raises: SystemExit where it cannot be read or is not what was marked."""
        if name not in self._read:
            self._read[name] = self._pixels(self._table[name])
        return self._read[name]

    def describe(self, name: str) -> dict[str, Any]:
        """The source of a frame, in the form used by the marks."""
        source = self._table[name]
        if isinstance(source, Sample):
            return {"kind": "skimage.data", "file": source.file, "licence": SAMPLE_LICENCE}
        if isinstance(source, SharedClip):
            return {"kind": "shared clip", "clip": source.clip, "frame": source.frame, "licence": SHARED_LICENCE}
        package = PACKAGES[source.package]
        path = package.path(source.member)
        found = {"kind": package.kind, "package": package.spec, "member": path, "licence": package.licence}
        return found | ({"frame": source.frame} if isinstance(source, Clip) else {})

    def _pixels(self, source: Source) -> Image:
        if isinstance(source, Picture):
            return _decoded(self._packages.read(source.package, source.member), source.member)
        if isinstance(source, Sample):
            data = (Path(skimage.__file__).parent / "data" / source.file).read_bytes()
            self._packages.check(f"scikit-image:{source.file}", data)
            return _decoded(data, source.file)
        if isinstance(source, SharedClip):
            if self._shared is None:
                raise SystemExit(f"{source.clip} lies in the shared folder, which --shared names")
            return _frame(self._shared / "videos" / source.clip, source.frame)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(source.member).name
            path.write_bytes(self._packages.read(source.package, source.member))
            return _frame(path, source.frame)


def _decoded(data: bytes, name: str) -> Image:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"{name} cannot be decoded")
    return np.asarray(image, np.uint8)


def _frame(path: Path, index: int) -> Image:
    """Decoded from the start: seeking is not exact in every container."""
    reader = cv2.VideoCapture(str(path))
    for _ in range(index + 1):
        whole, image = reader.read()
        if not whole:
            raise SystemExit(f"{path.name}: no frame {index}")
    return np.asarray(image, np.uint8)
