"""Faces that are to be hidden: all of them, in every frame, whatever a job labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import pytest

from tests.worker.faces.pictures import FACE, portrait, scaled
from worker.core.records import DecodedFrame, Detections, Floats, Image, TrackedFrame
from worker.inference.hiding import AROUND_S, AllFaces, closed
from worker.tracks.association import MAX_GAP_S

FPS = 25
SCALES = (0.7, 0.5, 0.4, 0.25, 0.15)


def tracked(count: int, places: dict[int, dict[int, float]]) -> Iterable[TrackedFrame]:
    """places: of each track the left edge of its box, 10 px wide, by frame."""
    for i in range(count):
        here = {track_id: lefts[i] for track_id, lefts in places.items() if i in lefts}
        boxes = np.array([[left, 0, left + 10, 10] for left in here.values()], np.float32).reshape(-1, 4)
        faces = Detections(boxes, np.ones(len(boxes), np.float32), np.zeros((len(boxes), 5, 2), np.float32))
        yield TrackedFrame(DecodedFrame(i, i / FPS, None), faces, tuple(here), ())


def lefts(boxes: Floats) -> list[float]:
    return sorted(boxes[:, 0].tolist())


def test_frames_between_two_have_the_face() -> None:
    """A track's face moves evenly through a gap; around the track it stays for a while, and no longer."""
    found = list(closed(tracked(100, {0: {30: 100, 31: 110, 41: 210, 42: 220}, 7: {60: 5}})))
    assert [frame.frame_index for frame in found] == list(range(100))
    around = round(AROUND_S * FPS)
    for frame in found:
        i = frame.frame_index
        wanted = [5.0] if abs(i - 60) <= around else []
        if 30 - around <= i <= 42 + around:
            wanted.append(100 + 10 * min(max(i - 30, 0), 12))
        assert lefts(frame.boxes) == pytest.approx(sorted(wanted)), i


def test_faces_come_soon_enough() -> None:
    """The buffer covers the longest gap: memory does not grow with the video."""
    read: list[int] = []

    def frames() -> Iterable[TrackedFrame]:
        for frame in tracked(1000, {0: dict.fromkeys(range(1000), 3.0)}):
            read.append(frame.frame.frame_index)
            yield frame

    for found in closed(frames()):
        assert read[-1] - found.frame_index <= MAX_GAP_S * FPS + 1
        assert lefts(found.boxes) == [3.0]


def crowd() -> Image:
    """Portraits of several sizes, some mirrored, side by side, the smallest face 14 px wide."""
    picture = np.full((360, 640, 3), 90, np.uint8)
    left = 0
    for i, scale in enumerate(SCALES):
        one = scaled(portrait()[:300, 100:400], scale)
        one = np.ascontiguousarray(one[:, ::-1]) if i % 2 else one
        picture[40 * (i % 3) : 40 * (i % 3) + one.shape[0], left : left + one.shape[1]] = one
        left += one.shape[1]
    return picture


def covered(boxes: Floats, face: Sequence[float]) -> bool:
    """Whether a box has most of the face."""
    low, high = np.maximum(boxes[:, :2], face[:2]), np.minimum(boxes[:, 2:], face[2:])
    area = (face[2] - face[0]) * (face[3] - face[1])
    return bool((np.clip(high - low, 0, None).prod(axis=1) / area > 0.6).any())


def test_every_face_is_found_also_where_a_frame_fails() -> None:
    """All faces of a crowd have a box in every frame, also in those in which none can be found."""
    clear = crowd()
    vague = np.asarray(cv2.blur(clear, (25, 25)), np.uint8)
    pictures = [clear] * 8 + [vague] * 10 + [clear] * 8
    scan = AllFaces()
    assert len(next(iter(scan.run([DecodedFrame(0, 0, vague)]))).boxes) < len(SCALES)
    found = list(scan.run(DecodedFrame(i, i / FPS, picture) for i, picture in enumerate(pictures)))
    assert [frame.frame_index for frame in found] == list(range(26))
    assert min(len(frame.boxes) for frame in found) >= len(SCALES)
    face = np.array(FACE) - (100, 0, 100, 0)
    assert all(covered(frame.boxes, (face * SCALES[0]).tolist()) for frame in found)


def test_a_face_does_not_reach_into_another_shot() -> None:
    """Before a cut to it there is nothing to be hidden."""
    empty, shown = np.full((300, 300, 3), 20, np.uint8), np.ascontiguousarray(portrait()[:300, 100:400])
    pictures = [empty] * 6 + [shown] * 6 + [empty] * 6
    found = AllFaces().run(DecodedFrame(i, i / FPS, picture) for i, picture in enumerate(pictures))
    assert [len(frame.boxes) for frame in found] == [0] * 6 + [1] * 6 + [0] * 6


def test_large_frames_are_scanned_in_detail() -> None:
    """A face that is small in a large frame is found, in every frame."""
    large = np.full((2160, 3840, 3), 90, np.uint8)
    small = scaled(portrait()[:300, 100:400], 0.55)  # 50 px: 8 where the frame is reduced to 640 px
    large[900 : 900 + small.shape[0], 2000 : 2000 + small.shape[1]] = small
    found = list(AllFaces().run(DecodedFrame(i, i / FPS, large) for i in range(8)))
    face = (np.array(FACE) - (100, 0, 100, 0)) * 0.55 + (2000, 900, 2000, 900)
    assert all(covered(frame.boxes, face.tolist()) for frame in found)
