"""What a file is, by its first bytes: names and content types that clients send are not believed."""

from __future__ import annotations

from typing import Literal

from app.contract.jobs import MediaType
from app.http.errors import UnsupportedMedia

ImageType = Literal["jpg", "png", "webp"]

HEAD_BYTES = 512  # enough to tell every type: a tar's mark ends at byte 262, a second MPEG-TS packet starts at 188
_TS_PACKET_BYTES = 188
_TAR_MARK = slice(257, 262)

SUPPORTED = "MP4 or MOV, WebM or Matroska, AVI, MPEG-TS, GIF, JPEG, PNG, WebP, or a zip or tar of images"


def sniff(head: bytes) -> MediaType | ImageType | None:
    """The type of a file that starts with `head` (its first `HEAD_BYTES`, or all of it), or None."""
    kinds: list[tuple[bool, MediaType | ImageType]] = [
        (head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}, "mp4"),
        (head.startswith(b"\x1a\x45\xdf\xa3"), "matroska"),
        (head.startswith(b"RIFF") and head[8:12] == b"AVI ", "avi"),
        (head.startswith(b"RIFF") and head[8:12] == b"WEBP", "webp"),
        (head.startswith((b"GIF87a", b"GIF89a")), "gif"),
        (head.startswith(b"\xff\xd8\xff"), "jpg"),
        (head.startswith(b"\x89PNG\r\n\x1a\n"), "png"),
        (head.startswith((b"PK\x03\x04", b"PK\x05\x06")), "zip"),
        (head[_TAR_MARK] == b"ustar", "tar"),
        (head.startswith(b"G") and head[_TS_PACKET_BYTES : _TS_PACKET_BYTES + 1] == b"G", "mpegts"),
    ]
    return next((kind for matches, kind in kinds if matches), None)


def media_type(head: bytes) -> MediaType | ImageType:
    """As `sniff`.  Raises: UnsupportedMedia if it is none of them, or empty."""
    if not head:
        raise UnsupportedMedia("The file is empty.", field="file")
    kind = sniff(head)
    if kind is None:
        raise UnsupportedMedia(f"The file is none of: {SUPPORTED}.", field="file")
    return kind


def image_type(head: bytes) -> ImageType:
    """The type of one of several `frames`.  Raises: UnsupportedMedia if it is no image."""
    kind = sniff(head)
    if kind not in {"jpg", "png", "webp"}:
        raise UnsupportedMedia("A frame is empty or is not a JPEG, PNG or WebP image.", field="frames")
    return kind
