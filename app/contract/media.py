"""The kinds of input: magic bytes, names for clients, and how the worker reads them.

A new kind is a row of `KINDS` that the worker's decoder supports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

HEAD_BYTES = 512  # enough for all kinds: a tar's magic ends at byte 262, a second MPEG-TS packet starts at 188

AVIF_BRANDS = (b"avif", b"avis")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1")  # stills; sequences of other brands are video tracks

# How an input is stored and decoded.  Images, one or several, are stored as one uncompressed zip, in order.
Reading = Literal["video", "zip", "tar"]
InputKind = Literal["video", "frames"]  # as clients see it


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of input.

    name: as in a job's record; for an image, its suffix in the zip.  words: its name in messages to clients.
    content_types: accepted for a request body.  begins: whether a file with these first `HEAD_BYTES` is of this kind.
    """

    name: str
    words: str
    content_types: tuple[str, ...]
    begins: Callable[[bytes], bool]
    reading: Reading = "video"
    is_image: bool = False

    @property
    def input_kind(self) -> InputKind:
        """The kind as clients see it: images have no timestamps of their own."""
        return "video" if self.reading == "video" else "frames"


def _starts(*marks: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(marks)


def _riff(form: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(b"RIFF") and head[8:12] == form


def _brand(*brands: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[4:8] == b"ftyp" and head[8:12] in brands


def _is_mp4(head: bytes) -> bool:
    boxes = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}
    return head[4:8] in boxes and not _brand(*HEIC_BRANDS, *AVIF_BRANDS)(head)


# In the order of the checks; MPEG-TS has the weakest magic bytes.
KINDS = (
    Kind("mp4", "MP4, MOV or 3GP", ("video/mp4", "video/quicktime", "video/3gpp"), _is_mp4),
    Kind("matroska", "WebM or Matroska", ("video/webm", "video/x-matroska"), _starts(b"\x1a\x45\xdf\xa3")),
    Kind("avi", "AVI", ("video/x-msvideo",), _riff(b"AVI ")),
    Kind("flv", "FLV", ("video/x-flv",), _starts(b"FLV\x01")),
    Kind("asf", "WMV", ("video/x-ms-wmv", "video/x-ms-asf"), _starts(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")),
    Kind("ogg", "Ogg", ("video/ogg",), _starts(b"OggS")),
    Kind("mpeg", "MPEG-PS", ("video/mpeg",), _starts(b"\x00\x00\x01\xba")),
    Kind("mxf", "MXF", ("application/mxf",), _starts(b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01")),
    Kind("dv", "DV", ("video/x-dv",), lambda head: head[:3] == b"\x1f\x07\x00" and head[80:81] == b"\x3f"),
    Kind("gif", "GIF", ("image/gif",), _starts(b"GIF87a", b"GIF89a")),
    Kind("jpg", "JPEG", ("image/jpeg",), _starts(b"\xff\xd8\xff"), "zip", is_image=True),
    Kind("png", "PNG", ("image/png",), _starts(b"\x89PNG\r\n\x1a\n"), "zip", is_image=True),
    Kind("webp", "WebP", ("image/webp",), _riff(b"WEBP"), "zip", is_image=True),
    Kind("heic", "HEIC", ("image/heic", "image/heif"), _brand(*HEIC_BRANDS), "zip", is_image=True),
    Kind("avif", "AVIF", ("image/avif",), _brand(*AVIF_BRANDS), "zip", is_image=True),
    Kind("zip", "zip", ("application/zip",), _starts(b"PK\x03\x04", b"PK\x05\x06"), "zip"),
    Kind("tar", "tar", ("application/x-tar",), lambda head: head[257:262] == b"ustar", "tar"),
    Kind("mpegts", "MPEG-TS", ("video/mp2t",), lambda head: head[:1] == head[188:189] == b"G"),
    Kind("m2ts", "M2TS", ("video/vnd.dlna.mpeg-tts",), lambda head: head[4:5] == head[196:197] == b"G"),
)
STORED = {kind.name: kind for kind in KINDS if not kind.is_image}  # the kinds in jobs' records

_VIDEOS = ", ".join(kind.words for kind in KINDS if kind.reading == "video")
_IMAGES = [kind.words for kind in KINDS if kind.is_image]
_ARCHIVES = " or ".join(kind.words for kind in STORED.values() if kind.reading != "video")
FRAMES = f"{', '.join(_IMAGES[:-1])} or {_IMAGES[-1]}"
SUPPORTED = f"{_VIDEOS}, {', '.join(_IMAGES)}, or a {_ARCHIVES} of images"


def kind_of(head: bytes) -> Kind | None:
    """The kind of a file that starts with `head` (its first `HEAD_BYTES`, or all of it), or None."""
    return next((kind for kind in KINDS if kind.begins(head)), None)
