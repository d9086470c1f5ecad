"""The kind of a file by its magic bytes; clients' file names and content types are not trusted."""

from __future__ import annotations

from app.contract.media import FRAMES, SUPPORTED, Kind, kind_of
from app.http.errors import UnsupportedMedia


def file_kind(head: bytes) -> Kind:
    """As `kind_of`.  Raises: UnsupportedMedia if the file is unsupported or empty."""
    if not head:
        raise UnsupportedMedia("The file is empty.", field="file")
    kind = kind_of(head)
    if kind is None:
        raise UnsupportedMedia(f"The file's type is not supported; supported are: {SUPPORTED}.", field="file")
    return kind


def image_kind(head: bytes) -> Kind:
    """The kind of one of several `frames`.  Raises: UnsupportedMedia if it is not an image."""
    kind = kind_of(head)
    if kind is None or not kind.is_image:
        raise UnsupportedMedia(f"A frame is empty or is not a {FRAMES} image.", field="frames")
    return kind
