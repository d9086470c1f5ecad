"""The chunk codec: what goes in comes out, rounded once, and damaged bytes are refused."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contract.chunks import (
    BOX_STEPS,
    CHUNK_FRAMES,
    DETECTION_STEPS,
    POSE_STEPS,
    SCORE_STEPS,
    SHARPNESS_STEPS,
    TIME_STEPS,
    ChunkError,
    decode,
    encode,
    quantise,
)
from app.contract.frames import Face, Frame, Looks

same_every_time = settings(derandomize=True, deadline=None, max_examples=60)
fractions = st.floats(0, 1)
pixels = st.floats(-10_000, 100_000)


def probabilities(labels: int) -> st.SearchStrategy[tuple[float, ...]]:
    """(K,) with sum 1."""
    weights = st.lists(st.floats(0, 1), min_size=labels, max_size=labels).filter(lambda values: sum(values) > 1e-3)
    return weights.map(lambda values: tuple(value / sum(values) for value in values))


angles = st.floats(-180, 180)
looks = st.builds(
    Looks,
    landmarks=st.tuples(*[st.tuples(pixels, pixels)] * 5),
    pose=st.tuples(angles, angles, angles),
    sharpness=fractions,
)


@st.composite
def chunks(draw: st.DrawFn) -> list[Frame]:
    """Any chunk: faces in all or none of its frames, equally many labels and members, all with landmarks or none."""
    labels, members = draw(st.integers(1, 9)), draw(st.integers(0, 3))
    scores = probabilities(labels)
    faces = st.builds(
        Face,
        track_id=st.integers(0, 2**31),
        bbox=st.tuples(pixels, pixels, pixels, pixels),
        detection_score=st.none() | fractions,
        scores=scores,
        members=st.tuples(*[scores] * members),
        looks=draw(st.sampled_from([st.none(), looks])),
    )
    frame = st.builds(
        Frame,
        frame_index=st.integers(0, 2**40),
        timestamp_s=st.floats(0, 1e6),
        faces=st.lists(faces, max_size=3).map(tuple),
        size=st.none() | st.tuples(st.integers(1, 65_535), st.integers(1, 65_535)),
    )
    return draw(st.lists(frame, max_size=6))


def one_frame() -> Frame:
    return Frame(5, 0.2, (Face(1, (1.5, 2, 30, 40), 0.75, (0.2, 0.5, 0.3), ((1, 0, 0), (0, 0.5, 0.5))),))


@same_every_time
@given(chunks())
def test_what_goes_in_comes_out(frames: list[Frame]) -> None:
    """Numbers differ by half a step at most, everything else is equal."""
    decoded = decode(encode(frames))
    assert [f.frame_index for f in decoded] == [f.frame_index for f in frames]
    for after, before in zip(decoded, frames, strict=True):
        assert abs(after.timestamp_s - before.timestamp_s) <= 0.51 / TIME_STEPS
        assert after.size == before.size
        assert [f.track_id for f in after.faces] == [f.track_id for f in before.faces]
        for new, old in zip(after.faces, before.faces, strict=True):
            assert max(abs(a - b) for a, b in zip(new.bbox, old.bbox, strict=True)) <= 0.5 / BOX_STEPS
            assert (new.detection_score is None) == (old.detection_score is None)
            assert abs((new.detection_score or 0) - (old.detection_score or 0)) <= 0.51 / DETECTION_STEPS
            assert (new.looks is None) == (old.looks is None)
            if new.looks and old.looks:
                pairs = zip(new.looks.landmarks, old.looks.landmarks, strict=True)
                assert max(abs(a[i] - b[i]) for a, b in pairs for i in (0, 1)) <= 0.5 / BOX_STEPS
                assert max(abs(a - b) for a, b in zip(new.looks.pose, old.looks.pose, strict=True)) <= 0.51 / POSE_STEPS
                assert abs(new.looks.sharpness - old.looks.sharpness) <= 0.51 / SHARPNESS_STEPS
            for a, b in zip((new.scores, *new.members), (old.scores, *old.members), strict=True):
                assert max(abs(x - y) for x, y in zip(a, b, strict=True)) <= 1.01 / SCORE_STEPS


@same_every_time
@given(chunks())
def test_rounding_happens_once(frames: list[Frame]) -> None:
    """Decoded chunks encode to the same bytes, so records never drift."""
    data = encode(frames)
    assert encode(decode(data)) == data


@same_every_time
@given(st.integers(1, 64).flatmap(probabilities))
def test_scores_sum_to_exactly_one(scores: tuple[float, ...]) -> None:
    """Steps of each face sum to the whole, none is negative, each is within one step of its probability."""
    steps = quantise(scores)
    assert sum(steps) == SCORE_STEPS
    assert min(steps) >= 0
    assert max(abs(step - score * SCORE_STEPS) for step, score in zip(steps, scores, strict=True)) <= 1.001


def test_decoded_scores_sum_to_exactly_one() -> None:
    """Thirds, which no fixed point can hold, still give the whole after the codec."""
    third = (1 / 3, 1 / 3, 1 / 3)
    (frame,) = decode(encode([Frame(0, 0, (Face(0, (0, 0, 1, 1), None, third, (third,)),))]))
    for scores in (frame.faces[0].scores, *frame.faces[0].members):
        assert sum(round(score * SCORE_STEPS) for score in scores) == SCORE_STEPS
        assert sum(scores) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("wrong", [(0.5, 0.4), (1.5, -0.5), (float("nan"), 1.0), (0.0, 0.0), (float("inf"), 0.0)])
def test_what_is_no_probability_is_refused(wrong: tuple[float, ...]) -> None:
    """A sum far from 1, a negative value and what is no number are errors, never stored."""
    with pytest.raises(ValueError, match="not probabilities"):
        quantise(wrong)


def test_a_chunk_has_a_most_and_one_shape() -> None:
    """More frames than a chunk holds, and faces with different numbers of labels or members, are refused."""
    assert len(decode(encode([one_frame()] * CHUNK_FRAMES))) == CHUNK_FRAMES
    fewer_labels = Frame(6, 0.3, (Face(1, (0, 0, 1, 1), None, (0.5, 0.5), ((1, 0), (0, 1))),))
    fewer_members = Frame(6, 0.3, (Face(1, (0, 0, 1, 1), None, (0.2, 0.5, 0.3)),))
    for frames in ([one_frame()] * (CHUNK_FRAMES + 1), [one_frame(), fewer_labels], [one_frame(), fewer_members]):
        with pytest.raises(ValueError, match="chunk"):
            encode(frames)


def test_every_changed_byte_is_noticed() -> None:
    """A chunk with any one byte changed is a ChunkError, or (in the compressor's own header) the same frames."""
    data = encode([one_frame()] * 3)
    frames = decode(data)
    refused = 0
    for place in range(len(data)):
        for change in (1, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[place] ^= change
            try:
                assert decode(bytes(damaged)) == frames
            except ChunkError:
                refused += 1
    assert refused > 2.8 * len(data)


def test_every_cut_is_noticed() -> None:
    """A chunk that ends early is a ChunkError, wherever it ends."""
    data = encode([one_frame()] * 3)
    for length in range(len(data)):
        with pytest.raises(ChunkError):
            decode(data[:length])


@same_every_time
@given(st.binary(max_size=200))
def test_any_body_is_a_chunk_or_an_error(body: bytes) -> None:
    """Bytes that inflate well but are no columns give a ChunkError, never another error or much memory."""
    try:
        frames = decode(b"\x01" + zlib.compress(body))
    except ChunkError:
        return
    assert len(frames) <= len(body)


@same_every_time
@given(st.binary(max_size=100), st.integers(0, 40), st.integers(0, 255))
def test_any_damage_below_the_checksum_is_an_error(noise: bytes, place: int, value: int) -> None:
    """Columns that were changed and checksummed again decode to frames or are a ChunkError."""
    body = bytearray(zlib.decompress(encode([one_frame()] * 2)[1:]))
    body[place] = value
    try:
        decode(b"\x01" + zlib.compress(bytes(body) + noise))
    except ChunkError:
        return
    assert not noise


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x02" + encode([])[1:], b"\x01", b"\x01not deflated"])
def test_other_versions_and_other_bytes_are_refused(data: bytes) -> None:
    """Only this version is read."""
    with pytest.raises(ChunkError):
        decode(data)
