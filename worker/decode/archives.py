"""Untrusted archives: the images of a zip or tar in order, read lazily.

Entries are read one at a time and never written to disk, so names only affect the order, and links have no effect.
Claims of an archive are checked before memory is allocated.
"""

from __future__ import annotations

import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from worker.decode import DecodeLimits, LimitExceededError, UndecodableInputError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif"})
MAX_IMAGE_BYTES = 64 * 2**20  # one file, inflated
MAX_ENTRIES_FACTOR = 2  # an archive may have as many other entries as images
MAX_NAME_BYTES = 2**20  # a tar's long name or extended header
MAX_DIRECTORY_BYTES = 256 * 2**20  # a zip's directory, which `zipfile` reads at once
HEAD_BYTES = 16  # enough to identify an image before inflating the rest
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Allow-list of magic bytes at offsets 0 and 8, since OpenCV reads more formats than untrusted input needs.
SIGNATURES: tuple[tuple[bytes, bytes], ...] = (
    (b"\xff\xd8\xff", b""),
    (PNG_SIGNATURE, b""),
    (b"RIFF", b"WEBP"),
)
# Major brands of ISO/IEC 23008-12 and of the AV1 Image File Format: stills, and sequences of AVIF.
PHOTOGRAPHS = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif", b"avis"})
IMAGES = "JPEG, PNG, WebP, HEIC or AVIF"
# Exceptions of `zipfile` for an entry that it cannot unpack.
UNPACKING = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    EOFError,
    OSError,
)
ZIP_ENTRY, ZIP_ENTRY_BYTES = b"PK\x01\x02", 46  # APPNOTE.TXT, 4.3.12

Entry = Callable[[], bytes | None]


def open_entries(kind: str, path: Path, limits: DecodeLimits, opened: ExitStack) -> list[Entry]:
    """Readers of the images of a `zip`, `tar`, `folder`, or of one `image`, in natural name order.

    Each returns a file's bytes, or None if it is unreadable.  opened: receives the open files.
    Raises: UndecodableInputError if the archive cannot be read; LimitExceededError.
    """
    return _OPENERS[kind](path, limits, opened)


def has_signature(head: bytes) -> bool:
    """Whether a file with these first bytes is one of `IMAGES`."""
    return is_photograph(head) or any(head.startswith(a) and head[8:12].startswith(b) for a, b in SIGNATURES)


def is_photograph(head: bytes) -> bool:
    """Whether a file with these first bytes is HEIC or AVIF."""
    return head[4:8] == b"ftyp" and head[8:12] in PHOTOGRAPHS


def _zip_entries(path: Path, limits: DecodeLimits, opened: ExitStack) -> list[Entry]:
    file = opened.enter_context(_Listing(path, MAX_DIRECTORY_BYTES, lambda read: _check_directory(read, limits)))
    try:
        archive = opened.enter_context(zipfile.ZipFile(file))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        raise UndecodableInputError("the zip archive is damaged or not finished") from None
    file.listed = True
    infos = archive.infolist()
    _check_entries(len(infos), limits)

    def read(info: zipfile.ZipInfo) -> bytes | None:
        if info.file_size > MAX_IMAGE_BYTES:
            raise LimitExceededError(f"an image of {info.file_size} bytes exceeds the limit of {MAX_IMAGE_BYTES} bytes")
        try:
            with archive.open(info) as image:
                head = image.read(HEAD_BYTES)
                return head + image.read(MAX_IMAGE_BYTES) if has_signature(head) else None
        except UNPACKING:
            return None  # damaged, encrypted, or with an unsupported compression

    # `is_dir` fails for an entry without a name, so `_is_image` comes first.
    wanted = [info for info in infos if _is_image(info.filename) and not info.is_dir() and not _is_link(info)]
    wanted.sort(key=lambda info: _natural(info.filename))
    return [lambda info=info: read(info) for info in wanted]  # type: ignore[misc]


def _check_directory(read: bytes, limits: DecodeLimits) -> None:
    """Count the entries of a zip's directory before `zipfile` parses them.  Raises: LimitExceededError."""
    seen, position = 0, 0
    while read.startswith(ZIP_ENTRY, position) and len(read) - position >= ZIP_ENTRY_BYTES:
        seen += 1
        _check_entries(seen, limits)
        position += ZIP_ENTRY_BYTES + sum(struct.unpack_from("<HHH", read, position + 28))  # name, extra field, comment


def _tar_entries(path: Path, limits: DecodeLimits, opened: ExitStack) -> list[Entry]:
    members: list[tarfile.TarInfo] = []
    file = opened.enter_context(_Listing(path, MAX_NAME_BYTES))
    try:
        # Uncompressed only: random access without inflating.
        archive = opened.enter_context(tarfile.open(fileobj=file, mode="r:"))  # noqa: SIM115  # it is, further out
        for seen, member in enumerate(archive, start=1):
            _check_entries(seen, limits)
            if member.isreg() and _is_image(member.name):
                members.append(member)
    except (tarfile.TarError, OSError, ValueError):
        if not members:
            raise UndecodableInputError("the tar archive is damaged or compressed; send it uncompressed") from None
    file.listed = True

    def read(member: tarfile.TarInfo) -> bytes | None:
        if member.size > MAX_IMAGE_BYTES:
            raise LimitExceededError(f"an image of {member.size} bytes exceeds the limit of {MAX_IMAGE_BYTES} bytes")
        try:
            image = archive.extractfile(member)
            return None if image is None else image.read()
        except (tarfile.TarError, OSError, ValueError):
            return None

    members.sort(key=lambda member: _natural(member.name))
    return [lambda member=member: read(member) for member in members]  # type: ignore[misc]


class _Listing(io.BufferedReader):
    """An archive's file with a limit on the size of a read until it is `listed`.

    look: called with each read's bytes before they are parsed.
    """

    def __init__(self, path: Path, most_bytes: int, look: Callable[[bytes], None] = lambda read: None) -> None:
        super().__init__(io.FileIO(path))
        self._most_bytes = most_bytes
        self._look = look
        self.listed = False

    def read(self, size: int | None = -1) -> bytes:
        if self.listed:
            return super().read(size)
        asked = self._most_bytes + 1 if size is None or size < 0 else size
        read = super().read(min(asked, self._most_bytes + 1))
        if len(read) > self._most_bytes:
            raise LimitExceededError(f"the archive's list of files exceeds the limit of {self._most_bytes} bytes")
        self._look(read)
        return read


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
    """Natural sort key: frame2 before frame10.  Numbers may have any length."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, 0, part) if i % 2 == 0 else _number(part) for i, part in enumerate(parts)]


def _number(digits: str) -> tuple[int, int, str]:
    significant = digits.lstrip("0")
    return (1, len(significant), significant)
