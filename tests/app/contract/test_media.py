"""Kinds of input: one table for receiving, naming, storing and decoding."""

from __future__ import annotations

import io
import tarfile

import pytest

from app.contract.media import KINDS, STORED, SUPPORTED, Kind, kind_of
from worker.decode.messages import ARCHIVES

WITHOUT_A_MARK = [b"", b"%PDF-1.7", b"#EXTM3U\n/etc/passwd", b"RIFF\x10\x00\x00\x00WAVE", b"G" + bytes(400)]


def test_every_kind_is_named_once() -> None:
    """No two kinds share a name or a content type, and clients read of each."""
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    types = [name for kind in KINDS for name in kind.content_types]
    assert len(set(types)) == len(types)
    assert all(kind.words in SUPPORTED for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_stored_as_something_the_decoder_reads(kind: Kind) -> None:
    """A file becomes a video, or an archive that the worker's decoder knows; an image becomes part of one."""
    assert kind.reading == "video" or kind.reading in ARCHIVES
    assert (kind.name in STORED) is not kind.is_image
    if kind.is_image:
        assert kind.reading in STORED


def test_a_tar_whose_first_name_begins_with_g_is_a_tar() -> None:
    """The weakest mark, that of MPEG-TS, is looked for last."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link = tarfile.TarInfo("G.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "x" * 31 + "G"  # byte 188 of the header
        archive.addfile(link)
    head = buffer.getvalue()
    assert head[0] == head[188] == ord("G")
    found = kind_of(head)
    assert found is not None
    assert found.name == "tar"


@pytest.mark.parametrize("head", WITHOUT_A_MARK)
def test_other_files_are_of_no_kind(head: bytes) -> None:
    """A file without the mark of a kind is none, whatever it is called."""
    assert kind_of(head) is None
