"""Colours as they are tagged, untagged ones as players take them, HDR as SDR."""

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from tests.worker.decode.scenes import difference, images, portrait, read, scene, write
from worker.core.records import Image
from worker.core.tones import HDR_TABLES, HLG, PQ, rolled_off
from worker.decode.pictures import is_dolby_alone
from worker.decode.video import DOLBY_ALONE, VideoSource

WITHIN = 2.0  # of 255, on average, of swscale's exact conversion
MATRICES = {"bt601": (6, Colorspace.ITU601), "bt709": (1, Colorspace.ITU709), "bt2020": (9, Colorspace.BT2020)}
FORMATS = [
    ("yuv420p", "libx264"), ("yuv422p", "libx264"), ("yuv444p", "libx264"), ("yuv420p10le", "libx265"),
    ("yuv420p12le", "libx265"), ("gray", "ffv1"), ("gray10le", "libx265"), ("bgr0", "ffv1"), ("bgra", "ffv1"),
    ("yuva420p", "ffv1"), ("gbrp10le", "ffv1"), ("yuv422p10le", "prores_ks"), ("yuv411p", "ffv1"), ("yuv440p", "ffv1"),
]  # fmt: skip
USUAL = {"yuv420p", "yuv444p", "yuv420p10le", "gray", "bgra"}


def tagged(matrix: int, colour_range: int) -> Any:
    def prepare(stream: Any) -> None:
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = colour_range

    return prepare


def exact(path: Path, matrix: Colorspace, colour_range: ColorRange) -> list[Image]:
    """What swscale makes of it when it is told matrix and range, as slowly and exactly as it can."""
    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    with av.open(str(path)) as container:
        return [
            np.asarray(
                frame.reformat(
                    format="rgb24",
                    src_colorspace=matrix,
                    src_color_range=colour_range,
                    dst_colorspace=matrix,
                    dst_color_range=ColorRange.JPEG,
                    interpolation=flags,
                ).to_ndarray(),
                np.uint8,
            )
            for frame in container.decode(video=0)
        ]


def compare(path: Path, matrix: Colorspace, colour_range: ColorRange) -> None:
    found, wanted = images(read(path)), exact(path, matrix, colour_range)
    assert len(found) == len(wanted) > 0
    for image, other in zip(found, wanted, strict=True):
        assert difference(image, other) < WITHIN


@pytest.mark.parametrize("colour_range", [ColorRange.MPEG, ColorRange.JPEG], ids=["limited", "full"])
@pytest.mark.parametrize("name", MATRICES)
def test_tagged_colours_are_as_tagged(tmp_path: Path, name: str, colour_range: ColorRange) -> None:
    """The matrix and the range that the file names are used, whatever its size."""
    number, matrix = MATRICES[name]
    path = write(tmp_path / "a.mp4", scene(2), prepare=tagged(number, int(colour_range)))
    compare(path, matrix, colour_range)


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_colours_of_a_recorded_call_are_the_container_s(tmp_path: Path, codec: str) -> None:
    """Chromium records full-range BT.709, which VP8's bitstream cannot state."""
    path = write(tmp_path / "a.webm", scene(2), codec, prepare=tagged(1, int(ColorRange.JPEG)))
    compare(path, Colorspace.ITU709, ColorRange.JPEG)


@pytest.mark.parametrize(("lines", "matrix"), [(576, Colorspace.ITU601), (720, Colorspace.ITU709)])
def test_untagged_colours_go_by_the_size(tmp_path: Path, lines: int, matrix: Colorspace) -> None:
    """BT.709 from 720 lines on, BT.601 below."""
    compare(write(tmp_path / "a.mp4", scene(1, (320, lines))), matrix, ColorRange.MPEG)


@pytest.mark.parametrize(
    ("pix_fmt", "codec"),
    [pytest.param(*row, marks=() if row[0] in USUAL else pytest.mark.long) for row in FORMATS],
)
def test_formats_of_pixels(tmp_path: Path, pix_fmt: str, codec: str) -> None:
    """Sampling, depth, grey, RGB and alpha."""
    path = write(tmp_path / "a.mkv", scene(2), codec, pix_fmt=pix_fmt)
    full = pix_fmt.startswith(("gray", "bgr", "gbr"))
    compare(path, Colorspace.ITU601, ColorRange.JPEG if full else ColorRange.MPEG)


@pytest.mark.parametrize("number", [8, 14, 0, 3])
def test_an_unknown_matrix_is_the_nearest(tmp_path: Path, number: int) -> None:
    """A matrix that cannot be converted gives pictures, and never those of another buffer."""
    path = write(tmp_path / "a.mp4", scene(3), prepare=tagged(number, 1))
    found = images(read(path))
    for image, other in zip(found, exact(path, Colorspace.ITU601, ColorRange.MPEG), strict=True):
        assert difference(image, other) < 12


def test_a_frame_that_cannot_be_converted_is_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no picture instead of the previous one; a warning has the count."""
    source = VideoSource(write(tmp_path / "a.mp4", scene(5), pix_fmt="yuv444p"), limits())
    usual = source._pictures._reformatter.reformat
    calls: list[int] = []

    class Refusing:
        def reformat(self, frame: Any, **more: Any) -> Any:
            calls.append(1)
            if len(calls) == 3:
                raise av.ArgumentError(22, "no")
            return usual(frame, **more)

    source._pictures._reformatter = Refusing()  # type: ignore[assignment]
    frames = list(source.frames())
    assert [frame.image is None for frame in frames] == [False, False, True, False, False]
    assert source.warnings == ["1 pictures could not be converted and have no faces"]


def limits() -> Any:
    from worker.decode import DecodeLimits

    return DecodeLimits(1000, 4_000_000)


def hdr(path: Path, transfer: int, tag: bool = True, size: tuple[int, int] = (192, 144), count: int = 3) -> Path:
    """The portrait lit so that its whites are four times as bright as diffuse white, as 10-bit BT.2020.

    tag: whether the file says that it is HDR.
    """
    table = {PQ: to_pq, HLG: to_hlg}[transfer]

    def prepare(stream: Any) -> None:
        stream.codec_context.colorspace, stream.codec_context.color_range = 9, 1
        stream.codec_context.color_primaries = 9
        stream.codec_context.color_trc = transfer if tag else 1

    light = (np.arange(256) / 255) ** 2.2 * 4 * 203
    codes = np.round(255 * table(light)).astype(np.uint8)
    pictures = [codes[picture] for picture in scene(count, size)]
    options = {"x265-params": "log-level=none", "preset": "ultrafast"}
    return write(path, pictures, "libx265", pix_fmt="yuv420p10le", prepare=prepare, options=options)


def to_pq(cd_m2: Any) -> Any:
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = (cd_m2 / 10_000) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def to_hlg(cd_m2: Any) -> Any:
    scene_light = (cd_m2 / 1000) ** (1 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    bright = a * np.log(np.maximum(12 * scene_light - b, 1e-9)) + c
    return np.where(scene_light <= 1 / 12, np.sqrt(3 * scene_light), bright)


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
def test_hdr_keeps_the_shades_of_bright_faces(tmp_path: Path, transfer: int) -> None:
    """Skin brighter than diffuse white is not clipped to white, and dark parts keep their brightness."""
    (image, *_) = images(read(hdr(tmp_path / "a.mp4", transfer)))
    given = scene(1)[0]
    bright = np.asarray(given.min(axis=2) > 150)  # more light than diffuse white
    assert bright.sum() > 300
    assert (image[bright] >= 254).mean() < 0.3
    order = np.corrcoef(image[bright].astype(float).mean(axis=1), given[bright].astype(float).mean(axis=1))
    assert order[0, 1] > 0.7
    dark = np.asarray((given.max(axis=2) < 70) & (given.min(axis=2) > 20))
    lit = ((given[dark] / 255.0) ** 2.2 * 4) ** (1 / 2.2) * 255
    assert abs(float(image[dark].mean()) - float(lit.mean())) < 14


def dolby(path: Path, profile: int, compatible_with: int, entry: bytes = b"hev1") -> Path:
    """Have an mp4 say that it is Dolby Vision.  Source: Dolby Vision streams within the ISO base media file format."""
    data = bytearray(path.read_bytes())
    flags = profile << 9 | 6 << 3 | 0b101  # level 6; metadata and a base, no enhancement
    record = bytes([1, 0]) + struct.pack(">HB", flags, compatible_with << 4) + bytes(19)
    box = struct.pack(">I4s", 8 + len(record), b"dvvC" if profile > 7 else b"dvcC") + record
    at, around = 0, []
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
        while bytes(data[at + 4 : at + 8]) != name:
            at += int(struct.unpack_from(">I", data, at)[0])
        around.append(at)
        at += 8
    at += 8  # version, number of entries
    data[at + 4 : at + 8] = entry
    for outer in [*around, at]:
        (size,) = struct.unpack_from(">I", data, outer)
        struct.pack_into(">I", data, outer, size + len(box))
    end = at + struct.unpack_from(">I", data, at)[0] - len(box)
    path.write_bytes(data[:end] + box + data[end:])  # `moov` lies behind the pictures, whose offsets stay
    return path


@pytest.mark.parametrize(("transfer", "compatible_with"), [(PQ, 1), (HLG, 4)], ids=["8.1", "8.4"])
def test_dolby_vision_is_shown_by_its_base(tmp_path: Path, transfer: int, compatible_with: int) -> None:
    """Profile 8 is HDR10 or HLG with more."""
    plain = images(read(hdr(tmp_path / "a.mp4", transfer)))
    source = VideoSource(dolby(hdr(tmp_path / "b.mp4", transfer), 8, compatible_with), limits())
    for found, wanted in zip(images(source.frames()), plain, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert source.warnings == []


def test_dolby_vision_alone_is_grey(tmp_path: Path) -> None:
    """Profile 5 has no standard base layer: brightness is right, colour is dropped, and a warning is added."""

    def prepare(stream: Any) -> None:
        stream.codec_context.color_range = 2

    codes = np.round(255 * to_pq((np.arange(256) / 255) ** 2.2 * 203)).astype(np.uint8)
    given = scene(3)
    options = {"x265-params": "log-level=none", "preset": "ultrafast"}
    path = write(
        tmp_path / "a.mp4", [codes[p] for p in given], "libx265", pix_fmt="yuv420p10le", options=options,
        prepare=prepare, change=lambda frame: frame.reformat(format="yuv420p10le", dst_color_range=ColorRange.JPEG),
    )  # fmt: skip
    source = VideoSource(dolby(path, 5, 0, b"dvh1"), limits())
    found = images(source.frames())
    assert source.warnings == [DOLBY_ALONE]
    for image, picture in zip(found, given, strict=True):
        assert np.ptp(image.astype(int), axis=2).max() <= 2
        assert np.corrcoef(image[..., 0].ravel(), picture.mean(axis=2).ravel())[0, 1] > 0.95


def test_dolby_vision_by_its_metadata() -> None:
    """Matroska has no tag for it; a base that names its colours is shown by them."""
    said = {"DOVI_RPU_BUFFER": object()}
    for side_data, transfer, colour_range, alone in (
        (said, 2, ColorRange.JPEG, True),
        (said, PQ, ColorRange.JPEG, False),
        (said, 2, ColorRange.MPEG, False),
        ({}, 2, ColorRange.JPEG, False),
    ):
        frame: Any = SimpleNamespace(side_data=side_data, color_trc=transfer, color_range=colour_range)
        assert is_dolby_alone(frame, "[0][0][0][0]") is alone


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_tone_curves_grow(transfer: int) -> None:
    """Black is black, brighter light is never darker, and diffuse white has room above it."""
    table = HDR_TABLES[transfer].astype(int)
    assert table[0] == 0
    assert (np.diff(table) >= 0).all()
    assert rolled_off(np.array([0.25, 1.0]))[0] == 0.25
    assert 0.7 < rolled_off(np.array([1.0]))[0] < 0.9


def test_portrait_is_in_colour() -> None:
    """What these tests compare has colours to be wrong about."""
    assert difference(portrait(), np.repeat(portrait().mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)) > 5
