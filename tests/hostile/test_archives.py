"""Names, links, devices and holes in archives have no effect but the order of pictures."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.hostile.conftest import memory

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hostile.conftest import Canary, HostileApi
    from tests.service import Clips

pytestmark = pytest.mark.e2e

NAMES = (
    "../../../../../../../../tmp/mien-climbed.png",
    "/tmp/mien-absolute.png",
    "..\\..\\mien-climbed.png",
    "C:\\mien-absolute.png",
    "a/../../b.png",
    "dot./.png/../c.png",
    "new\nline.png",
    "nul\0.png",
    "\u202egnp.evil.png",
    "1" * 6000 + ".png",
    "~/.ssh/d.png",
    "$(touch mien-ran).png",
    "%s%n%d.png",
)


def test_names_have_no_effect(hostile: HostileApi, clips: Clips, tmp_path: Path) -> None:
    """Names that climb, are absolute, or hold control characters or endless digits are names; nothing is written."""
    before = set(os.listdir("/tmp")), set(os.listdir(hostile.service.uploads.parent)), set(os.listdir("."))
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive, tarfile.open(fileobj=tarred, mode="w") as tar:
        for name in NAMES:
            archive.writestr(zipfile.ZipInfo(name), clips.png(0))
            info = tarfile.TarInfo(name)
            info.size = len(clips.png(0))
            tar.addfile(info, io.BytesIO(clips.png(0)))
    for content in (zipped, tarred):
        job, frames = hostile.label(content.getvalue(), "images")
        assert len(frames) == job["input"]["frame_count"] == len(NAMES) - 1  # at a zero byte, a name ends
    grown = set(os.listdir("/tmp")) - before[0]
    assert not [name for name in grown if name.startswith(("mien-climbed", "mien-absolute"))]
    new_beside = set(os.listdir(hostile.service.uploads.parent)) - before[1]
    assert not [name for name in new_beside if not name.endswith(".log")]
    assert set(os.listdir(".")) - before[2] <= {".hypothesis"}


def test_links_of_a_zip_are_not_followed(hostile: HostileApi, canary: Canary, clips: Clips) -> None:
    """A link is never followed or read as a picture."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("0.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, str(canary.path))
        archive.writestr("1.png", clips.png(0))
    _, frames = hostile.label(buffer.getvalue(), "a.zip")
    assert len(frames) == 1
    assert not canary.was_touched()


def test_links_devices_and_pipes_of_a_tar_are_not_opened(hostile: HostileApi, canary: Canary, clips: Clips) -> None:
    """Nor are a tar's links, hard or soft, its devices and pipes; an endless device would never end."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number, (kind, target) in enumerate(
            [
                (tarfile.SYMTYPE, str(canary.path)),
                (tarfile.LNKTYPE, str(canary.path)),
                (tarfile.LNKTYPE, "later.png"),
                (tarfile.SYMTYPE, "/dev/zero"),
                (tarfile.CHRTYPE, ""),
                (tarfile.BLKTYPE, ""),
                (tarfile.FIFOTYPE, ""),
            ]
        ):
            odd = tarfile.TarInfo(f"{number}.png")
            odd.type, odd.linkname, odd.devmajor, odd.devminor = kind, target, 1, 5
            archive.addfile(odd)
        info = tarfile.TarInfo("later.png")
        info.size = len(clips.png(0))
        archive.addfile(info, io.BytesIO(clips.png(0)))
    _, frames = hostile.label(buffer.getvalue(), "a.tar")
    assert len(frames) == 1
    assert not canary.was_touched()


@pytest.mark.parametrize("size", [2**40, 2**30, 2**25])
def test_holes_of_a_tar(hostile: HostileApi, clips: Clips, size: int) -> None:
    """A sparse file that claims a terabyte or a gigabyte is refused, and one of 32 MB of holes is no picture."""
    info = tarfile.TarInfo("0.png")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (0, 0)  # one piece of data, of nothing
    header[483:495] = b"\x80" + size.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    rest = io.BytesIO()
    with tarfile.open(fileobj=rest, mode="w") as archive:
        plain = tarfile.TarInfo("1.png")
        plain.size = len(clips.png(0))
        archive.addfile(plain, io.BytesIO(clips.png(0)))
    with memory(hostile.service, 64, 200):
        job = hostile.ended(hostile.submit(bytes(header) + rest.getvalue(), "a.tar")["id"])
    if size >= 2**30:
        assert (job["state"], job["error"]["code"]) == ("failed", "limit_exceeded")
        assert f"an image of {size} bytes" in job["error"]["detail"]
    else:
        assert (job["state"], len(job["warnings"])) == ("succeeded", 1)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_a_compressed_tar_is_not_inflated(hostile: HostileApi, clips: Clips, mode: str) -> None:
    """Only plain tars are read."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        info = tarfile.TarInfo("0.png")
        info.size = len(clips.png(0))
        archive.addfile(info, io.BytesIO(clips.png(0)))
    hostile.refused(hostile.upload(buffer.getvalue(), "a.tar"), 415, "unsupported_media")
