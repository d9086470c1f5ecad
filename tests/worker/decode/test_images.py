"""Archives of images: natural order, every image its place, nothing but images, limits before memory."""

from __future__ import annotations

import io
import resource
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from worker.core.records import DecodedFrame
from worker.decode import DecodeLimits, LimitExceededError, Sampling, UndecodableInputError
from worker.decode.images import ImagesSource

LIMITS = DecodeLimits(max_frames=100, max_pixels=1_000_000)
Entries = list[tuple[str, bytes]]


def picture(value: int, suffix: str = ".png", size: tuple[int, int] = (12, 16)) -> bytes:
    """A grey image, encoded."""
    ok, data = cv2.imencode(suffix, np.full((*size, 3), value, np.uint8))
    assert ok
    return data.tobytes()


def pack(folder: Path, kind: str, entries: Entries) -> Path:
    path = folder / f"input.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in entries:
                archive.writestr(name, data)
    elif kind == "tar":
        with tarfile.open(path, "w") as tar:
            for name, data in entries:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    else:
        path.mkdir()
        for name, data in entries:
            (path / name).write_bytes(data)
    return path


def values(frames: list[DecodedFrame]) -> list[int | None]:
    """The grey value of each frame, None where it has no picture."""
    return [None if frame.image is None else round(float(frame.image.mean())) for frame in frames]


@pytest.mark.parametrize("kind", ["zip", "tar", "folder"])
def test_natural_order_and_times(tmp_path: Path, kind: str) -> None:
    """frame2 comes before frame10; indices count from 0 and times follow the frame rate."""
    numbers = [10, 2, 1, 33, 9]
    path = pack(tmp_path, kind, [(f"frame{n}.png", picture(n)) for n in numbers])
    source = ImagesSource(path, kind, 10, LIMITS)
    frames = list(source.frames())
    assert values(frames) == sorted(numbers)
    assert [(f.frame_index, f.timestamp_s) for f in frames] == [(i, i / 10) for i in range(5)]
    info = source.info
    assert (info.width, info.height, info.fps, info.frame_count, info.duration_s) == (16, 12, 10, 5, 0.5)
    assert (source.decoded, source.warnings) == (5, [])


def test_each_image_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first, too, whose size is known before it is asked for."""
    path = pack(tmp_path, "zip", [(f"{n}.png", picture(n)) for n in (10, 20, 30)])
    calls: list[int] = []
    usual = cv2.imdecode

    def counting(data: np.ndarray, flags: int) -> object:
        calls.append(len(data))
        return usual(data, flags)

    monkeypatch.setattr(cv2, "imdecode", counting)
    source = ImagesSource(path, "zip", 25, LIMITS)
    assert len(calls) == 1
    assert values(list(source.frames())) == [10, 20, 30]
    assert len(calls) == 3


@pytest.mark.parametrize("kind", ["zip", "tar", "folder"])
def test_a_damaged_image_keeps_its_place(tmp_path: Path, kind: str) -> None:
    """Frames around an image that cannot be decoded keep their indices, and a warning names it."""
    entries = [(f"{i}.png", picture(10 * i)) for i in range(5)]
    entries[0] = ("0.png", b"not an image")
    entries[3] = ("3.png", picture(30)[:40])
    source = ImagesSource(pack(tmp_path, kind, entries), kind, 25, LIMITS)
    assert values(list(source.frames())) == [None, 10, 20, None, 40]
    assert len(source.warnings) == 1
    assert source.warnings[0].endswith("frames 0, 3")


def test_a_png_that_promises_more_keeps_its_place(tmp_path: Path) -> None:
    """No memory is allocated for a chunk that claims 4 GB."""
    whole = picture(80)
    data = whole.index(b"IDAT") - 4
    promising = whole[:data] + struct.pack(">I", 0xFF7FFFEC) + whole[data + 4 :]
    path = pack(tmp_path, "zip", [("1.png", picture(70)), ("2.png", promising), ("3.png", whole + b"more")])
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert values(list(ImagesSource(path, "zip", 10, LIMITS).frames())) == [70, None, 80]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 1_000_000


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".JPG"])
def test_formats_and_channel_order(tmp_path: Path, suffix: str) -> None:
    """JPEG, PNG and WebP are read, and a red picture is red."""
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes BGR
    ok, data = cv2.imencode(suffix.lower(), red)
    assert ok
    (frame,) = ImagesSource(pack(tmp_path, "zip", [(f"a{suffix}", data.tobytes())]), "zip", 25, LIMITS).frames()
    assert frame.image is not None
    assert (frame.image[..., 0] > 240).all()
    assert (frame.image[..., 1:] < 15).all()


def test_other_formats_in_disguise_are_not_decoded(tmp_path: Path) -> None:
    """A TIFF or BMP named .png is no picture, though OpenCV could read it."""
    entries = [("0.png", picture(50)), ("1.png", picture(50, ".bmp")), ("2.png", picture(50, ".tiff"))]
    assert values(list(ImagesSource(pack(tmp_path, "zip", entries), "zip", 25, LIMITS).frames())) == [50, None, None]


def test_links_folders_and_other_files_of_a_zip_are_passed_over(tmp_path: Path) -> None:
    """Only regular image files are frames."""
    path = pack(tmp_path, "zip", [("b.png", picture(7)), ("notes.txt", b"x"), ("__MACOSX/._b.png", b"x")])
    with zipfile.ZipFile(path, "a") as archive:
        archive.mkdir("folder.png")
        link = zipfile.ZipInfo("a.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert values(list(ImagesSource(path, "zip", 25, LIMITS).frames())) == [7]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_folders_and_devices_of_a_tar_are_passed_over(tmp_path: Path, kind: bytes) -> None:
    """Nothing but a regular file is opened, and names that climb out of the archive have no effect."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture(99))
    path = tmp_path / "input.tar"
    with tarfile.open(path, "w") as archive:
        odd = tarfile.TarInfo("a.png")
        odd.type, odd.linkname = kind, str(secret)
        archive.addfile(odd)
        info = tarfile.TarInfo("../../b.png")
        info.size = len(picture(7))
        archive.addfile(info, io.BytesIO(picture(7)))
    assert values(list(ImagesSource(path, "tar", 25, LIMITS).frames())) == [7]
    assert sorted(tmp_path.iterdir()) == sorted([secret, path])


def test_sampling(tmp_path: Path) -> None:
    """Start, end and rate pick frames by their times; indices stay those of the source."""
    path = pack(tmp_path, "zip", [(f"{i}.png", picture(i)) for i in range(30)])
    source = ImagesSource(path, "zip", 10, LIMITS, Sampling(sample_fps=2, start_s=0.5, end_s=2.5))
    assert [f.frame_index for f in source.frames()] == [5, 10, 15, 20]


def test_too_many_images(tmp_path: Path) -> None:
    """More images than `max_frames`, or entries than twice that, are refused."""
    limits = DecodeLimits(max_frames=3, max_pixels=10_000)
    for kind in ("zip", "tar"):
        images = pack(tmp_path, kind, [(f"{i}.png", picture(i)) for i in range(4)])
        with pytest.raises(LimitExceededError, match="more than 3 frames"):
            ImagesSource(images, kind, 25, limits)
        others = pack(tmp_path, kind, [("0.png", picture(1)), *((f"{i}.txt", b"") for i in range(6))])
        with pytest.raises(LimitExceededError, match="more than 6 entries"):
            ImagesSource(others, kind, 25, limits)


def test_too_many_pixels(tmp_path: Path) -> None:
    """An image above `max_pixels` ends the job, be it the first or a later one."""
    limits = DecodeLimits(max_frames=10, max_pixels=12 * 16)
    large = picture(1, size=(12, 17))
    with pytest.raises(LimitExceededError, match="192 pixels"):
        ImagesSource(pack(tmp_path, "zip", [("0.png", large)]), "zip", 25, limits)
    source = ImagesSource(pack(tmp_path, "zip", [("0.png", picture(1)), ("1.png", large)]), "zip", 25, limits)
    with pytest.raises(LimitExceededError, match="17 x 12"):
        list(source.frames())


def test_a_small_file_that_claims_many_pixels(tmp_path: Path) -> None:
    """A PNG whose header promises 100,000 x 100,000 pixels is refused before memory is taken for them."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    pixels = zlib.compress(bytes(1000))
    body = b"IDAT" + pixels
    bomb += struct.pack(">I", len(pixels)) + body + struct.pack(">I", zlib.crc32(body))
    with pytest.raises(LimitExceededError, match="pixels"):
        ImagesSource(pack(tmp_path, "zip", [("0.png", bomb)]), "zip", 25, LIMITS)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_that_hold_no_image(tmp_path: Path, kind: str) -> None:
    """Empty archives, archives of other files and images that are all damaged say so."""
    for entries, message in (
        ([], "no JPEG"),
        ([("a.txt", b"x")], "no JPEG"),
        ([("a.png", b"x")], "none of the images"),
    ):
        with pytest.raises(UndecodableInputError, match=message):
            ImagesSource(pack(tmp_path, kind, entries), kind, 25, LIMITS)


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_truncated_archives(tmp_path: Path, kind: str, share: float) -> None:
    """An archive that was cut off gives what can be read in order, or an error; never anything else."""
    rng = np.random.default_rng(0)
    noise = [cv2.imencode(".png", rng.integers(0, 256, (32, 32, 3), np.uint8))[1].tobytes() for _ in range(6)]
    path = pack(tmp_path, kind, [(f"{i}.png", data) for i, data in enumerate(noise)])
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    if kind == "zip" or share == 0:
        with pytest.raises(UndecodableInputError):
            ImagesSource(path, kind, 25, LIMITS)
    else:
        frames = list(ImagesSource(path, kind, 25, LIMITS).frames())
        assert frames[0].image is not None
        assert frames[-1].image is None or len(frames) < 6


def test_an_encrypted_image_keeps_its_place(tmp_path: Path) -> None:
    """An entry that cannot be unpacked is a frame without a picture."""
    path = pack(tmp_path, "zip", [("0.png", picture(1)), ("1.png", picture(2))])
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1  # the flag "encrypted" of the last entry
    path.write_bytes(data)
    assert values(list(ImagesSource(path, "zip", 25, LIMITS).frames())) == [1, None]
