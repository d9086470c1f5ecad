"""The chunk codec: up to `CHUNK_FRAMES` frames as one compact byte string for Redis.

Columns of fixed-point integers, delta-encoded, split into byte planes and deflated: about 20 bytes a frame for one face
and seven scores.  Values are quantised only here, so that the API and `worker label` (without Redis) return the same
records: scores in steps of 1/50,000 that sum to exactly 1, boxes in 1/8 pixel, times in microseconds.

Frames whose size differs from the job's are rare: version 2 adds two columns with sizes.  Version 3 adds columns for
landmarks, pose and sharpness, and has the sizes, too.

Layout: version byte, then deflated: header (frames, faces, labels, members) and the columns in the order of `encode`.
A reader rejects unknown versions.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate

from app.contract.frames import LANDMARKS, POSE, Face, Frame, Looks
from app.contract.options import MOST_MEMBERS

CHUNK_FRAMES = 64
VERSION, WITH_SIZES, WITH_LOOKS = 1, 2, 3
SCORE_STEPS = 50_000
BOX_STEPS = 8  # a pixel
DETECTION_STEPS = 10_000
TIME_STEPS = 1_000_000  # a second
POSE_STEPS = 10  # a degree
SHARPNESS_STEPS = 1000
MAX_CHUNK_BYTES = 64 * 2**20  # inflated; 64 frames of 100 faces with every member take 1 MiB
MAX_LABELS, MAX_MEMBERS = 256, MOST_MEMBERS  # each takes a column, also without faces

_HEADER = struct.Struct("<IIHH")
_NO_DETECTION = -1


class ChunkError(ValueError):
    """The bytes are not a chunk that this release reads."""


def encode(frames: Sequence[Frame]) -> bytes:
    """At most `CHUNK_FRAMES` frames -> bytes.

    Raises: ValueError for more frames, or if faces differ in their numbers of labels or members.
    """
    faces = [face for frame in frames for face in frame.faces]
    labels = len(faces[0].scores) if faces else 0
    members = len(faces[0].members) if faces else 0
    if len(frames) > CHUNK_FRAMES or any(len(f.scores) != labels or len(f.members) != members for f in faces):
        raise ValueError("a chunk holds at most 64 frames whose faces have the same numbers of labels and members")
    scores = [quantise(face.scores) for face in faces]
    member_scores = [[quantise(face.members[m]) for face in faces] for m in range(members)]
    columns = [
        _pack(frame.frame_index for frame in frames),
        _pack(round(frame.timestamp_s * TIME_STEPS) for frame in frames),
        _pack(len(frame.faces) for frame in frames),
        _pack(face.track_id for face in faces),
        *(_pack(round(face.bbox[i] * BOX_STEPS) for face in faces) for i in range(4)),
        _pack(_detection_steps(face.detection_score) for face in faces),
        *(_pack(row[k] for row in scores) for k in range(labels)),
        *(_pack(row[k] for row in rows) for rows in member_scores for k in range(labels)),
    ]
    version = VERSION
    looks = [face.looks for face in faces if face.looks is not None]
    if looks and len(looks) != len(faces):
        raise ValueError("either all faces of a chunk have landmarks or none has")
    if looks or any(frame.size is not None for frame in frames):
        version = WITH_LOOKS if looks else WITH_SIZES
        columns += [_pack(0 if frame.size is None else frame.size[i] for frame in frames) for i in range(2)]
    if looks:
        columns += _looks_columns(looks)
    header = _HEADER.pack(len(frames), len(faces), labels, members)
    return bytes([version]) + zlib.compress(header + b"".join(columns), 6)


def decode(data: bytes) -> list[Frame]:
    """Bytes of `encode` -> frames.

    Raises: ChunkError if the bytes are damaged or of an unknown version.
    """
    if not data or data[0] not in {VERSION, WITH_SIZES, WITH_LOOKS}:
        raise ChunkError(f"chunk version {data[0] if data else None}, this release reads {VERSION} to {WITH_LOOKS}")
    inflate = zlib.decompressobj()
    try:
        body = inflate.decompress(data[1:], MAX_CHUNK_BYTES)
    except zlib.error as error:
        raise ChunkError(f"damaged chunk: {error}") from None
    if not inflate.eof or len(body) < _HEADER.size:
        raise ChunkError("damaged chunk: it ends early or is too large")
    n_frames, n_faces, labels, members = _HEADER.unpack_from(body)
    if n_frames > CHUNK_FRAMES or labels > MAX_LABELS or members > MAX_MEMBERS:
        raise ChunkError("damaged chunk: it claims more than a chunk can hold")
    reader = _Columns(body, _HEADER.size)
    index, time, counts = (reader.take(n_frames) for _ in range(3))
    track = reader.take(n_faces)
    box = [reader.take(n_faces) for _ in range(4)]
    detection = reader.take(n_faces)
    scores = [_scores(reader, n_faces, labels) for _ in range(1 + members)]
    sizes = [reader.take(n_frames) for _ in range(2)] if data[0] != VERSION else [[0] * n_frames] * 2
    looks = _looks(reader, n_faces) if data[0] == WITH_LOOKS else [None] * n_faces
    if not reader.at_end or sum(counts) != n_faces or min(counts, default=0) < 0:
        raise ChunkError("damaged chunk: its columns do not fit together")
    faces = [
        Face(
            track_id=track[i],
            bbox=(box[0][i] / BOX_STEPS, box[1][i] / BOX_STEPS, box[2][i] / BOX_STEPS, box[3][i] / BOX_STEPS),
            detection_score=None if detection[i] == _NO_DETECTION else detection[i] / DETECTION_STEPS,
            scores=scores[0][i],
            members=tuple(rows[i] for rows in scores[1:]),
            looks=looks[i],
        )
        for i in range(n_faces)
    ]
    ends = list(accumulate(counts))
    return [
        Frame(
            index[i],
            time[i] / TIME_STEPS,
            tuple(faces[ends[i] - counts[i] : ends[i]]),
            (sizes[0][i], sizes[1][i]) if sizes[0][i] else None,
        )
        for i in range(n_frames)
    ]


def quantise(probabilities: Sequence[float]) -> list[int]:
    """Probabilities (K,), sum 1 -> integers that sum to exactly `SCORE_STEPS`, by the largest remainder method.

    Raises: ValueError if a value is negative or the sum is not about 1.
    """
    total = sum(probabilities)
    if not 0.99 < total < 1.01 or min(probabilities) < 0:
        raise ValueError(f"not probabilities: {probabilities}")
    exact = [p / total * SCORE_STEPS for p in probabilities]
    steps = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda k: steps[k] - exact[k])
    for k in by_remainder[: SCORE_STEPS - sum(steps)]:
        steps[k] += 1
    return steps


def _detection_steps(score: float | None) -> int:
    return _NO_DETECTION if score is None else round(score * DETECTION_STEPS)


def _pack(values: Iterable[int]) -> bytes:
    """Encode a column: a byte with the width of a value in bytes, then the differences as byte planes, lowest first."""
    previous = 0
    differences = []
    for value in values:
        differences.append(value - previous)
        previous = value
    low, high = min(differences, default=0), max(differences, default=0)
    code = next((c for c in "bhiq" if -(1 << (8 * array(c).itemsize - 1)) <= low and high < 1 << _bits(c)), None)
    if code is None:
        raise ValueError("a value does not fit into 64 bits")
    column = array(code, differences)
    if sys.byteorder == "big":
        column.byteswap()
    raw = column.tobytes()
    return bytes([column.itemsize]) + b"".join(raw[plane :: column.itemsize] for plane in range(column.itemsize))


def _bits(code: str) -> int:
    return 8 * array(code).itemsize - 1


class _Columns:
    """Reads consecutive columns of `_pack`."""

    def __init__(self, body: bytes, offset: int) -> None:
        self._body = body
        self._offset = offset

    def take(self, count: int) -> list[int]:
        width = self._body[self._offset] if self._offset < len(self._body) else 0
        code = {array(c).itemsize: c for c in "bhiq"}.get(width)
        start, end = self._offset + 1, self._offset + 1 + count * width
        if code is None or end > len(self._body):
            raise ChunkError("damaged chunk: a column ends early")
        raw = bytearray(count * width)
        for plane in range(width):
            raw[plane::width] = self._body[start + plane * count : start + (plane + 1) * count]
        column = array(code)
        column.frombytes(bytes(raw))
        if sys.byteorder == "big":
            column.byteswap()
        self._offset = end
        return list(accumulate(column))

    @property
    def at_end(self) -> bool:
        return self._offset == len(self._body)


def _scores(reader: _Columns, faces: int, labels: int) -> list[tuple[float, ...]]:
    columns = [reader.take(faces) for _ in range(labels)]
    return [tuple(column[i] / SCORE_STEPS for column in columns) for i in range(faces)]


def _looks_columns(looks: Sequence[Looks]) -> list[bytes]:
    return [
        *(
            _pack(round(one.landmarks[p][i] * BOX_STEPS) for one in looks)
            for p in range(len(LANDMARKS))
            for i in (0, 1)
        ),
        *(_pack(round(one.pose[i] * POSE_STEPS) for one in looks) for i in range(len(POSE))),
        _pack(round(one.sharpness * SHARPNESS_STEPS) for one in looks),
    ]


def _looks(reader: _Columns, faces: int) -> list[Looks]:
    points = [[reader.take(faces) for _ in (0, 1)] for _ in LANDMARKS]
    yaw, pitch, roll = ([value / POSE_STEPS for value in reader.take(faces)] for _ in POSE)
    sharpness = reader.take(faces)
    return [
        Looks(
            tuple((x[i] / BOX_STEPS, y[i] / BOX_STEPS) for x, y in points),
            (yaw[i], pitch[i], roll[i]),
            sharpness[i] / SHARPNESS_STEPS,
        )
        for i in range(faces)
    ]
