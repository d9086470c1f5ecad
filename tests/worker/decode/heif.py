"""Photographs as phones write them: HEIC and AVIF files of one picture or of a grid of tiles, turned by the file.

Source: ISO/IEC 23008-12 (HEIF), ISO/IEC 14496-12 (boxes).
"""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import Any

import av
import numpy as np

from tests.scheduling import scheduling_kept
from worker.core.records import Image

# Of each: coding, box of its configuration, item type, options.
CODINGS = {
    "heic": ("libx265", b"hvcC", b"hvc1", {"x265-params": "crf=4:log-level=none:keyint=1", "preset": "ultrafast"}),
    "avif": ("libsvtav1", b"av1C", b"av01", {"preset": "10", "crf": "8"}),
}


def photograph(
    picture: Image, coding: str = "heic", grid: tuple[int, int] = (1, 1), turns: int = 0, mirror: int | None = None
) -> bytes:
    """A file of the picture (H, W, 3), cut into `grid` rows and columns of equal tiles.

    turns: quarter turns against the clock that the file asks for.  mirror: 0 upside down, 1 left to right.
    """
    rows, columns = grid
    height, width = picture.shape[0] // rows, picture.shape[1] // columns
    tiles = [
        picture[r * height : (r + 1) * height, c * width : (c + 1) * width] for r in range(rows) for c in range(columns)
    ]
    coded = [_code(np.ascontiguousarray(tile), coding) for tile in tiles]
    _, _, kind, _ = CODINGS[coding]
    datas = [data for _, data in coded]
    kinds = [kind] * len(tiles)
    if len(tiles) > 1:
        datas.append(struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, picture.shape[1], picture.shape[0]))
        kinds.append(b"grid")
    properties = [config for config, _ in coded]
    properties.append(_full(b"ispe", struct.pack(">II", width, height)))
    properties.append(_full(b"ispe", struct.pack(">II", picture.shape[1], picture.shape[0])))
    properties.append(_box(b"pixi", bytes(4) + b"\x03\x08\x08\x08"))
    shown = []
    if turns:
        properties.append(_box(b"irot", bytes([turns])))
        shown.append(0x80 | len(properties))  # essential
    if mirror is not None:
        properties.append(_box(b"imir", bytes([mirror])))
        shown.append(0x80 | len(properties))  # essential
    n = len(tiles)
    of_items = [[0x80 | (i + 1), n + 1, n + 3] for i in range(n)]
    of_items[-1] += [] if n > 1 else shown
    if n > 1:
        of_items.append([n + 2, n + 3, *shown])
    return _file(coding, kinds, datas, properties, of_items, n)


def _file(
    coding: str, kinds: list[bytes], datas: list[bytes], properties: list[bytes], of_items: list[list[int]], tiles: int
) -> bytes:
    count = len(kinds)
    brand = b"heic" if coding == "heic" else b"avif"
    head = _box(b"ftyp", brand + bytes(4) + b"mif1" + brand)
    infos = b"".join(
        _full(b"infe", struct.pack(">HH", i + 1, 0) + kinds[i] + b"\0", 2, int(count > 1 and i < tiles))
        for i in range(count)
    )
    associations = b"".join(struct.pack(">HB", i + 1, len(of)) + bytes(of) for i, of in enumerate(of_items))
    boxes = [
        _full(b"hdlr", bytes(4) + b"pict" + bytes(13)),
        _full(b"pitm", struct.pack(">H", count)),
        _full(b"iinf", struct.pack(">H", count) + infos),
        _box(
            b"iprp",
            _box(b"ipco", b"".join(properties)) + _full(b"ipma", struct.pack(">I", count) + associations),
        ),
    ]
    if count > 1:
        links = struct.pack(">HH", count, tiles) + b"".join(struct.pack(">H", i + 1) for i in range(tiles))
        boxes.append(_full(b"iref", _box(b"dimg", links)))

    def meta(start: int) -> bytes:
        places = b""
        for i, data in enumerate(datas):
            places += struct.pack(">HHHII", i + 1, 0, 1, start, len(data))
            start += len(data)
        return _full(b"meta", b"".join(boxes) + _full(b"iloc", b"\x44\x00" + struct.pack(">H", count) + places))

    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + _box(b"mdat", b"".join(datas))


def _code(tile: Image, coding: str) -> tuple[bytes, bytes]:
    """One tile -> the box of its decoder's configuration, its data."""
    codec, config, _, options = CODINGS[coding]
    file = io.BytesIO()
    with scheduling_kept(), av.open(file, "w", format="mp4") as made:
        stream: Any = made.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = tile.shape[:2]
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(tile, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    whole = file.getvalue()
    at = whole.index(config) - 4
    size = int.from_bytes(whole[at : at + 4], "big")
    with av.open(io.BytesIO(whole), "r") as given:
        packet = next(packet for packet in given.demux(video=0) if packet.size)
        return whole[at : at + size], bytes(packet)


def _box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(data), kind) + data


def _full(kind: bytes, data: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, bytes([version]) + flags.to_bytes(3, "big") + data)
