"""Small files that become large, and headers that claim what is not there: limits hold before memory is taken.

Bounds: the front end grows by at most 64 MiB, as it streams.  The worker, its decoding child included, grows by at most
450 MiB: the largest frame that is allowed (33 megapixels, 99 MB) inflated, as BGR and as RGB in shared memory, beside
the file itself.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.hostile.conftest import memory

if TYPE_CHECKING:
    from tests.hostile.conftest import HostileApi
    from tests.service import Clips

pytestmark = pytest.mark.e2e

FRONT_END_MIB, WORKER_MIB = 64, 450
NAMES = 1_000_000


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@cache
def png(width: int, height: int, rows: int | None = None) -> bytes:
    """A grey PNG of zeros, of which so many rows are there."""
    deflate = zlib.compressobj(9)
    row = bytes(1 + width)
    pixels = b"".join(deflate.compress(row) for _ in range(height if rows is None else rows)) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def gif(width: int, height: int, frames: int = 1) -> bytes:
    """A GIF whose frames claim to cover a screen of that size."""
    image = b"\x2c\0\0\0\0" + struct.pack("<HH", width, height) + b"\0\x02\x02\x44\x01\0"
    return (
        b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + bytes(3) + b"\xff\xff\xff" + image * frames + b";"
    )


def zipped(*entries: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["as it is", "in a zip", "claimed only", "in a tar"])
def test_a_png_bomb(hostile: HostileApi, kind: str) -> None:
    """A still of 144 megapixels in some 150 KB ends the job at the limit, and is never inflated."""
    bomb = png(12_000, 12_000, rows=10 if kind == "claimed only" else None)
    assert len(bomb) < 200_000
    if kind == "in a zip":
        bomb = zipped(("a.png", bomb))
    if kind == "in a tar":
        bomb = tarred(("a.png", bomb))
    with memory(hostile.service, FRONT_END_MIB, 100):
        job = hostile.fails(bomb, "limit_exceeded")
    assert "33000000 pixels" in job["error"]["detail"]


def tarred(*entries: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(8000, 8000), (32_000, 32_000), (65_535, 65_535)])
def test_a_gif_bomb(hostile: HostileApi, size: tuple[int, int]) -> None:
    """A GIF of a few bytes that claims a huge screen fails at the limit."""
    with memory(hostile.service, FRONT_END_MIB, WORKER_MIB):
        hostile.fails(gif(*size, frames=50), "limit_exceeded", "undecodable_input")


def test_the_largest_picture_that_is_allowed(hostile: HostileApi) -> None:
    """One just below the limit is labelled, within the bound of memory."""
    with memory(hostile.service, FRONT_END_MIB, WORKER_MIB):
        job, frames = hostile.label(png(5700, 5700), "large.png", faces="cropped")
    assert len(frames) == 1
    assert job["input"]["width"] == 5700


def test_a_zip_bomb(hostile: HostileApi) -> None:
    """An entry that inflates to 200 MB, and many that inflate to 60 MB of no image, are not inflated as a whole."""
    with memory(hostile.service, FRONT_END_MIB, 200):
        hostile.fails(zipped(("a.png", bytes(200 * 2**20))), "limit_exceeded")
        zeros = zipped(("0.png", bytes(60 * 2**20)))
        hostile.fails(repeated(zeros, 300), "undecodable_input", "limit_exceeded")


def repeated(archive: bytes, times: int) -> bytes:
    """A zip with one entry -> one whose directory names that entry so many times."""
    start = archive.index(b"PK\x01\x02")
    end = archive.index(b"PK\x05\x06")
    directory = archive[start:end] * times
    ending = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, times, times, len(directory), start, 0)
    return archive[:start] + directory + ending


def test_an_image_that_pretends_to_be_small(hostile: HostileApi) -> None:
    """A zip's entry that claims one byte and holds many gives no more than it claims."""
    archive = bytearray(zipped(("a.png", png(64, 64)), ("b.png", bytes(50 * 2**20))))
    at = archive.rindex(b"PK\x01\x02") + 24
    archive[at : at + 4] = struct.pack("<I", 1)
    with memory(hostile.service, FRONT_END_MIB, 100):
        job = hostile.ended(hostile.submit(bytes(archive))["id"])
    assert (job["state"], len(job["warnings"])) == ("succeeded", 1)


def test_a_million_names(hostile: HostileApi) -> None:
    """A zip's directory with more entries than the limit is refused while it is counted, not when it is in memory."""
    image = zipped(("0000000.png", png(64, 64)))
    start, end = image.index(b"PK\x01\x02"), image.index(b"PK\x05\x06")
    before, after = image[start : start + 46], image[start + 46 + 11 : end]
    assert image[start + 46 : start + 57] == b"0000000.png"
    before = before[:28] + struct.pack("<H", 7) + before[30:]
    directory = b"".join(before + b"%07d" % i + after for i in range(NAMES))
    ending = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(directory), start, 0)
    with memory(hostile.service, FRONT_END_MIB, 200):
        job = hostile.fails(image[:start] + directory + ending, "limit_exceeded")
    assert "entries" in job["error"]["detail"]


def test_a_name_of_megabytes(hostile: HostileApi) -> None:
    """A tar's long name and extended header are read up to a limit."""
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        info = tarfile.TarInfo("a.png")
        info.type, info.size = kind, 40 * 2**20
        content = info.tobuf() + bytes(40 * 2**20) + tarred(("a.png", png(64, 64)))
        with memory(hostile.service, FRONT_END_MIB, 100):
            hostile.fails(content, "limit_exceeded")


def patched(content: bytes, place: bytes, offset: int, value: bytes) -> bytes:
    """The content with other bytes at an offset from a place's first mark."""
    at = content.index(place) + offset
    return content[:at] + value + content[at + len(value) :]


def test_a_billion_frames_in_an_mp4(hostile: HostileApi, clips: Clips) -> None:
    """An index that claims 10^9 samples of one size would take 24 GB, which FFmpeg refuses by itself.

    Of an index of up to 10^8 a decoder takes what `MIEN_MAX_DECODE_BYTES` allows; that limit is tested with it.
    """
    video = clips.video(clips.pictures(5))
    claimed = patched(video, b"stsz", 8, struct.pack(">II", 1, 10**9))
    claimed = patched(claimed, b"stts", 12, struct.pack(">I", 10**9))
    claimed = patched(claimed, b"stsc", 16, struct.pack(">I", 10**9))
    with memory(hostile.service, FRONT_END_MIB, WORKER_MIB):
        job = hostile.ended(hostile.submit(claimed)["id"])
    assert (job["state"], (job["error"] or {}).get("code")) in {("succeeded", None), ("failed", "undecodable_input")}


def test_a_billion_frames_in_an_avi(hostile: HostileApi, clips: Clips) -> None:
    """Claimed but missing data costs only a warning."""
    video = clips.video(clips.pictures(5), container="avi")
    claimed = patched(video, b"strh", 8 + 32, struct.pack("<I", 10**9))
    claimed = patched(claimed, b"avih", 8 + 16, struct.pack("<I", 10**9))
    job, frames = hostile.label(claimed, "a.avi")
    assert len(frames) == 5
    assert job["progress"]["frames_total"] == job["input"]["frame_count"] == 5


@pytest.mark.parametrize("size", [(32_000, 32_000), (65_535, 65_535), (0, 0)])
def test_huge_pictures_in_an_mp4(hostile: HostileApi, clips: Clips, size: tuple[int, int]) -> None:
    """A sample description that claims huge pictures is refused, or corrected by what the stream says."""
    video = patched(clips.video(clips.pictures(3)), b"mp4v", 4 + 24, struct.pack(">HH", *size))
    with memory(hostile.service, FRONT_END_MIB, WORKER_MIB):
        job = hostile.ended(hostile.submit(video)["id"])
    assert job["state"] == "succeeded" or job["error"]["code"] in {"limit_exceeded", "undecodable_input"}


@pytest.mark.parametrize(("side", "code"), [(8000, "limit_exceeded"), (32_000, "undecodable_input")])
def test_huge_pictures_in_an_avi(hostile: HostileApi, side: int, code: str) -> None:
    """A stream whose first picture is huge fails before memory is taken for it: at our limit, or at FFmpeg's own."""
    picture = png(side, side, rows=3)
    with memory(hostile.service, FRONT_END_MIB, WORKER_MIB):
        hostile.fails(avi(picture, (side, side)), code)
        hostile.fails(avi(picture, (64, 64)), code)


def avi(picture: bytes, size: tuple[int, int], rate: int = 25) -> bytes:
    """An AVI of five equal PNG pictures."""

    def box(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    width, height = size
    main = struct.pack("<14I", 40_000, 0, 0, 0x10, 5, 0, 1, 0, width, height, 0, 0, 0, 0)
    stream = b"vidsMPNG" + struct.pack("<10I", 0, 0, 0, 1, rate, 0, 5, 0, 0, 0) + struct.pack("<4H", 0, 0, 64, 64)
    form = struct.pack("<IiiHH4sIIIII", 40, width, height, 1, 24, b"MPNG", 0, 0, 0, 0, 0)
    streams = box(b"LIST", b"strl" + box(b"strh", stream) + box(b"strf", form))
    header = box(b"LIST", b"hdrl" + box(b"avih", main) + streams)
    body = box(b"LIST", b"movi" + box(b"00dc", picture) * 5)
    return box(b"RIFF", b"AVI " + header + body)


def test_a_million_frames_a_second(hostile: HostileApi) -> None:
    """A rate that no camera has is no rate; every frame still has its record, at times that grow."""
    job, frames = hostile.label(avi(png(64, 64), (64, 64), rate=10**6), "a.avi")
    times = [frame["timestamp_s"] for frame in frames]
    assert len(frames) == 5
    assert times == sorted(times)
    assert job["input"]["fps"] is None


@pytest.mark.parametrize("delta", [0, 0xFFFFFFFF, 0x7FFFFFFF], ids=["zero", "negative", "huge"])
def test_times_that_stand_still_or_run_back(hostile: HostileApi, clips: Clips, delta: int) -> None:
    """Frames whose times are equal, run backwards or leap have a record each, at times from 0 that never fall."""
    video = clips.video(clips.pictures(6))
    at = video.index(b"stts") + 8
    entries = int.from_bytes(video[at : at + 4], "big")
    for entry in range(entries):
        video = patched(video, b"stts", 12 + 8 * entry + 4, struct.pack(">I", delta))
    _, frames = hostile.label(video)
    times = [frame["timestamp_s"] for frame in frames]
    assert len(times) == (1 if delta == 0x7FFFFFFF else 6)  # the others lie beyond the end that the file claims
    assert times[0] >= 0
    assert times == sorted(times)
