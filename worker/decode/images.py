"""Archives of still images: zip and tar, also what the front end makes of several `frames` or one image.

Entries are read one at a time and never written to disk, so names and links in an archive have no effect but order.
"""

from __future__ import annotations

import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from worker.decode import DecodeLimits, LimitExceededError, Sampler, Sampling, UndecodableInputError
from worker.records import DecodedFrame, Image, VideoInfo

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
MAX_IMAGE_BYTES = 64 * 2**20  # one file, inflated
MAX_ENTRIES_FACTOR = 2  # entries that are no images may be as many as the images allowed
# First bytes, and those at offset 8; OpenCV reads more formats than we want to offer to strangers.
SIGNATURES: tuple[tuple[bytes, bytes], ...] = (
    (b"\xff\xd8\xff", b""),
    (b"\x89PNG\r\n\x1a\n", b""),
    (b"RIFF", b"WEBP"),
)


class ImagesSource:
    """Images of an archive as the frames of one clip, in natural name order at a given frame rate; read once.

    An image that cannot be decoded keeps its place as a frame without a picture, and is named in `warnings`.

    Raises: UndecodableInputError if no image can be decoded, LimitExceededError as soon as a limit is passed.
    """

    def __init__(
        self, path: Path, kind: str, fps: float, limits: DecodeLimits, sampling: Sampling | None = None
    ) -> None:
        """kind: `zip`, `tar` or `folder`."""
        self._limits = limits
        self._sampling = sampling or Sampling()
        self._fps = fps
        with ExitStack() as opened:
            self._entries = _OPENERS[kind](path, limits, opened)
            if not self._entries:
                raise UndecodableInputError("the archive holds no JPEG, PNG or WebP image")
            limits.check_frames(len(self._entries))
            first = next((image for image in map(self._decode, range(len(self._entries))) if image is not None), None)
            if first is None:
                raise UndecodableInputError("none of the images can be decoded; send JPEG, PNG or WebP")
            self._opened = opened.pop_all()
        count = len(self._entries)
        self.info = VideoInfo(first.shape[1], first.shape[0], fps, count, count / fps)
        self.decoded = 0
        self.warnings: list[str] = []

    def frames(self) -> Iterator[DecodedFrame]:
        """Sampled frames in order."""
        with closing(self):
            sampler = Sampler(self._sampling)
            unreadable: list[int] = []
            for index in range(len(self._entries)):
                timestamp_s = index / self._fps
                if sampler.past_end(timestamp_s):
                    break
                if sampler.wants(timestamp_s):
                    image = self._decode(index)
                    if image is None:
                        unreadable.append(index)
                    yield DecodedFrame(index, timestamp_s, image)
                self.decoded += 1
            if unreadable:
                shown = ", ".join(map(str, unreadable[:10])) + (", ..." if len(unreadable) > 10 else "")
                self.warnings.append(f"{len(unreadable)} images could not be decoded and have no faces: frames {shown}")

    def close(self) -> None:
        """Close the archive; safe to call twice."""
        self._opened.close()

    def _decode(self, index: int) -> Image | None:
        data = self._entries[index]()
        if data is None or not any(data.startswith(a) and data[8:12].startswith(b) for a, b in SIGNATURES):
            return None
        try:
            bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:  # more pixels than OpenCV was told to accept
            raise LimitExceededError(f"image {index} exceeds the limit of {self._limits.max_pixels} pixels") from None
        if bgr is None:
            return None
        self._limits.check_pixels(bgr.shape[1], bgr.shape[0])
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


Entry = Callable[[], bytes | None]


def _zip_entries(path: Path, limits: DecodeLimits, opened: ExitStack) -> list[Entry]:
    try:
        archive = opened.enter_context(zipfile.ZipFile(path))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        raise UndecodableInputError("the zip archive is damaged or not finished") from None
    infos = archive.infolist()
    _check_entries(len(infos), limits)

    def read(info: zipfile.ZipInfo) -> bytes | None:
        if info.file_size > MAX_IMAGE_BYTES:
            raise LimitExceededError(f"an image of {info.file_size} bytes exceeds the limit of {MAX_IMAGE_BYTES} bytes")
        try:
            with archive.open(info) as file:
                return file.read(MAX_IMAGE_BYTES)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, OSError):
            return None  # damaged, encrypted, or packed in a way that Python does not read

    wanted = [info for info in infos if not info.is_dir() and _is_image(info.filename) and not _is_link(info)]
    wanted.sort(key=lambda info: _natural(info.filename))
    return [lambda info=info: read(info) for info in wanted]  # type: ignore[misc]


def _tar_entries(path: Path, limits: DecodeLimits, opened: ExitStack) -> list[Entry]:
    members: list[tarfile.TarInfo] = []
    try:
        # Uncompressed only: random access without inflating.
        archive = opened.enter_context(tarfile.open(path, "r:"))  # noqa: SIM115  # it is one, further out
        for seen, member in enumerate(archive, start=1):
            _check_entries(seen, limits)
            if member.isreg() and _is_image(member.name):
                members.append(member)
    except (tarfile.TarError, OSError, ValueError):
        if not members:
            raise UndecodableInputError("the tar archive is damaged or compressed; send it uncompressed") from None

    def read(member: tarfile.TarInfo) -> bytes | None:
        if member.size > MAX_IMAGE_BYTES:
            raise LimitExceededError(f"an image of {member.size} bytes exceeds the limit of {MAX_IMAGE_BYTES} bytes")
        try:
            file = archive.extractfile(member)
            return None if file is None else file.read()
        except (tarfile.TarError, OSError):
            return None

    members.sort(key=lambda member: _natural(member.name))
    return [lambda member=member: read(member) for member in members]  # type: ignore[misc]


def _folder_entries(path: Path, limits: DecodeLimits, opened: ExitStack) -> list[Entry]:
    files = [entry for entry in path.iterdir() if entry.is_file() and _is_image(entry.name)]
    files.sort(key=lambda file: _natural(file.name))
    return [file.read_bytes for file in files]


def _file_entry(path: Path, limits: DecodeLimits, opened: ExitStack) -> list[Entry]:
    return [path.read_bytes]


_OPENERS: dict[str, Callable[[Path, DecodeLimits, ExitStack], list[Entry]]] = {
    "zip": _zip_entries,
    "tar": _tar_entries,
    "folder": _folder_entries,
    "image": _file_entry,
}


def _check_entries(count: int, limits: DecodeLimits) -> None:
    if count > MAX_ENTRIES_FACTOR * limits.max_frames:
        raise LimitExceededError(f"the archive has more than {MAX_ENTRIES_FACTOR * limits.max_frames} entries")


def _is_image(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")  # macOS adds ._ twins


def _is_link(info: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(info.external_attr >> 16)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key by which frame2 comes before frame10."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdecimal() and part.isascii() else (0, 0, part) for part in parts]
