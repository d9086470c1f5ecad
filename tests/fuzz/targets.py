"""What is fuzzed: readers of what others write.  Each takes any input, and either reads it or says what is wrong.

A target's `check` raises for an input that is handled in any other way.  Inputs are made from valid samples by edits,
so that they get past the first look, and from nothing.
"""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from hypothesis import strategies as st

from app.contract import chunks
from app.contract.frames import Face, Frame
from app.contract.options import JobOptions
from app.http.errors import BadRequest, InvalidOption
from app.submission.fields import OptionFields
from app.submission.multipart import PartEnd, PartStart, parts
from model_store.bundle import BUNDLES_DIR, MANIFEST_FILE, BundleError, load_bundle, read_manifest
from model_store.manifest import Manifest
from tests.fuzz.media import check_photograph, check_video, photographs, videos
from worker.decode import DecodeLimits, LimitExceededError, UndecodableInputError
from worker.decode.images import ImagesSource

CORPUS = Path(__file__).parent / "corpus"
LIMITS = DecodeLimits(max_frames=50, max_pixels=100_000, max_s=10)
MOST_BYTES = 100_000

Check = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """A reader.  inputs: makes bytes for it."""

    name: str
    inputs: st.SearchStrategy[bytes]
    check: Check

    def corpus(self) -> list[Path]:
        """Inputs that once found something, and a few that reach far."""
        return sorted((CORPUS / self.name).glob("*"))


def edited(samples: Callable[[], list[bytes]]) -> st.SearchStrategy[bytes]:
    """Samples with pieces replaced, inserted, removed, repeated, or cut off."""
    edit = st.tuples(
        st.sampled_from(["replace", "insert", "remove", "repeat", "cut", "number"]),
        st.floats(0, 1),
        st.binary(max_size=16),
        st.integers(1, 64),
        st.sampled_from([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]),
    )

    def apply(sample: int, edits: list[tuple[str, float, bytes, int, int]]) -> bytes:
        made = samples()
        data = bytearray(made[sample % len(made)])
        for kind, place, piece, length, number in edits:
            at = int(place * len(data))
            match kind:
                case "replace":
                    data[at : at + len(piece)] = piece
                case "insert":
                    data[at:at] = piece
                case "remove":
                    del data[at : at + length]
                case "repeat":
                    data[at:at] = data[at : at + length]
                case "cut":
                    del data[max(at, 1) :]
                case "number":
                    size = 8 if number >= 2**32 else 4 if number >= 2**16 else 2
                    data[at : at + size] = number.to_bytes(size, "little")
        return bytes(data[:MOST_BYTES])

    return st.builds(apply, st.integers(0, 7), st.lists(edit, min_size=1, max_size=6))


def check_manifest(data: bytes) -> None:
    """A manifest is read into what can be written and read again, or refused in one sentence; so is its bundle."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / MANIFEST_FILE).write_bytes(data)
        try:
            manifest = read_manifest(folder)
        except BundleError:
            return
        assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
        try:
            load_bundle(folder)
        except BundleError:
            return
        raise AssertionError("a bundle without its weights was loaded")


@cache
def manifests() -> list[bytes]:
    return [(BUNDLES_DIR / "default" / MANIFEST_FILE).read_bytes()]


ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.just([]),
    st.just({}),
    st.lists(st.integers(), max_size=3),
    st.just("../../etc/passwd"),
    st.just(10**400),
    st.just("\ud800"),
)


@st.composite
def changed_manifests(draw: st.DrawFn) -> bytes:
    """The manifest that ships, with other values in some places."""
    fields: Any = json.loads(manifests()[0])
    for _ in range(draw(st.integers(1, 3))):
        place: Any = fields
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            if isinstance(place, dict) and draw(st.booleans()):
                place.pop(key)
            else:
                place[key] = draw(ODD_VALUES)
            break
    return json.dumps(fields).encode()


def check_chunk(data: bytes) -> None:
    """Bytes are frames, or no chunk; frames that make sense are encoded to what decodes to them again."""
    try:
        frames = chunks.decode(data)
    except chunks.ChunkError:
        return
    assert len(frames) <= chunks.CHUNK_FRAMES
    try:
        again = chunks.encode(frames)
    except (ValueError, OverflowError):  # numbers that are no probabilities, or outside of what a column holds
        return
    assert [frame.frame_index for frame in chunks.decode(again)] == [frame.frame_index for frame in frames]


@cache
def chunk_bodies() -> list[bytes]:
    """What is deflated in chunks."""
    scores = (0.25, 0.5, 0.25)
    faces = tuple(Face(i, (1.5 * i, 2.0, 30.0, 40.0), 0.9 if i else None, scores, (scores,) * 2) for i in range(3))
    frames = [Frame(i, i / 25, faces[: i % 4]) for i in range(20)]
    return [zlib.decompress(chunks.encode(some)[1:]) for some in (frames, frames[:1], [], [Frame(0, 0.0, ())] * 3)]


def deflated(body: bytes) -> bytes:
    return bytes([chunks.VERSION]) + zlib.compress(body, 1)


def deflated_bodies() -> list[bytes]:
    return [deflated(body) for body in chunk_bodies()]


def check_archive(data: bytes) -> None:
    """An archive yields its images in order and within limits, or a clear error; the first byte selects the kind."""
    kind = "zip" if data[:1] < b"\x80" else "tar"
    with tempfile.NamedTemporaryFile() as file:
        file.write(data[1:])
        file.flush()
        try:
            source = ImagesSource(Path(file.name), kind, 25, LIMITS)
            indices = []
            for frame in source.frames():
                indices.append(frame.frame_index)
                assert frame.image is None or frame.image.shape[0] * frame.image.shape[1] <= LIMITS.max_pixels
        except (UndecodableInputError, LimitExceededError):
            return
        assert indices == list(range(len(indices)))


@cache
def archives() -> list[bytes]:
    pictures = [
        cv2.imencode(suffix, np.full((12, 9, 3), 99, np.uint8))[1].tobytes() for suffix in (".png", ".jpg", ".webp")
    ]
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for i, picture in enumerate(pictures):
                with archive.open(f"{i}.png", "w", force_zip64=i == 1) as entry:
                    entry.write(picture)
            archive.comment = b"comment"
        made.append(b"\0" + buffer.getvalue())
    for format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
            for i, picture in enumerate(pictures):
                long = "" if format == tarfile.USTAR_FORMAT else "x" * 200
                info = tarfile.TarInfo(f"{long}{i}.png")
                info.size, info.mtime = len(picture), 1.5 if format == tarfile.PAX_FORMAT else 1
                tar.addfile(info, io.BytesIO(picture))
        made.append(b"\xff" + buffer.getvalue())
    return made


def check_options(data: bytes) -> None:
    """Options are taken and mean the same when they are read again, or refused with a problem that names a field.

    The bytes are a form's body, of which fields are options.
    """

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 100):
            yield data[start : start + 100]

    async def read() -> JobOptions:
        fields, name, value = OptionFields(), "", b""
        async for event in parts("multipart/form-data; boundary=b", body()):
            if isinstance(event, PartStart):
                name, value = event.name, b""
            elif isinstance(event, PartEnd):
                fields.add("form", name, value.decode("utf-8", "replace"))
            else:
                value += event
        return fields.finish()

    try:
        options = asyncio.run(read())
    except (BadRequest, InvalidOption):
        return
    assert JobOptions.model_validate_json(options.model_dump_json()) == options


def form(fields: list[tuple[str, str]]) -> bytes:
    text = "".join(f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields)
    return (text + "--b--\r\n").encode("utf-8", "surrogatepass")


@cache
def forms() -> list[bytes]:
    return [form([("sample_fps", "5"), ("members", "cnn,cnn_rnn"), ("callback_url", "https://a.example/x?y=1")])]


OPTION_VALUES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["true", "1e400", "nan", "-0", "1_0", "0x10", "cnn,,cnn", "https://[::1]:99999/", "https://\u2100/", "9" * 5000]
    ),
    st.floats().map(str),
    st.integers().map(str),
)
OPTIONS = st.lists(st.tuples(st.sampled_from([*JobOptions.model_fields, "file", "x"]), OPTION_VALUES), max_size=6)

TARGETS = {
    target.name: target
    for target in (
        Target("manifest", st.one_of(changed_manifests(), edited(manifests), st.binary(max_size=200)), check_manifest),
        Target(
            "chunks",
            st.one_of(
                edited(chunk_bodies).map(deflated), edited(lambda: [*map(deflated, chunk_bodies())]), st.binary()
            ),
            check_chunk,
        ),
        Target("archives", st.one_of(edited(archives), st.binary(max_size=2000)), check_archive),
        Target("videos", st.one_of(edited(videos), st.binary(max_size=2000)), check_video),
        Target("photographs", edited(photographs), check_photograph),
        Target("options", st.one_of(OPTIONS.map(form), edited(forms), st.binary(max_size=300)), check_options),
    )
}
