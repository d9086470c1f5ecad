"""Detection on keyframes: what lies between them is as if every frame had been looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest

from worker.core.records import DecodedFrame, DetectedFrame, Detections, Image
from worker.faces.keyframes import GAP_FRAMES, KeyframeDetection

FPS = 30
Scene = Callable[[int], np.ndarray]  # frame -> true boxes (N, 4)


class Oracle:
    """Knows the scene's true boxes; the frame's number is written into its last row of pixels."""

    name = "oracle"

    def __init__(self, scene: Scene, batch: int = 1) -> None:
        self.scene = scene
        self.batch = batch
        self.asked: list[int] = []

    def detect(self, images: Sequence[Image], min_score: float | None) -> list[Detections]:
        assert len(images) <= self.batch
        return [self._one(int(image[-1, 0, 0]) + 256 * int(image[-1, 0, 1])) for image in images]

    def _one(self, index: int) -> Detections:
        self.asked.append(index)
        boxes = self.scene(index).reshape(-1, 4).astype(np.float32)
        landmarks = np.repeat(boxes[:, None, :2], 5, axis=1) + np.arange(5, dtype=np.float32)[None, :, None]
        return Detections(boxes, np.full(len(boxes), 0.9, np.float32), landmarks)


def film(count: int, cuts: Sequence[int] = (), unreadable: Sequence[int] = ()) -> list[DecodedFrame]:
    """Noise pictures that change wholly at each cut, with their number in the last row."""
    rng = np.random.default_rng(0)
    frames = []
    background = rng.integers(0, 256, (9, 16, 3), np.uint8)
    for i in range(count):
        if i in cuts:
            background = 255 - background
        image = np.asarray(cv2.resize(background, (160, 90), interpolation=cv2.INTER_NEAREST), np.uint8).copy()
        image[-1] = (i % 256, i // 256, 0)
        frames.append(DecodedFrame(i, i / FPS, None if i in unreadable else image))
    return frames


def run(
    detector: Oracle, frames: list[DecodedFrame], max_faces: int = 10, min_face_px: float = 0
) -> list[DetectedFrame]:
    found = list(KeyframeDetection(detector, max_faces, min_face_px, None).run(frames))
    assert [d.frame for d in found] == frames  # every frame once, in order
    return found


def linear(i: int) -> np.ndarray:
    """Two faces that move and grow evenly."""
    return np.array([[10 + 3 * i, 20 + i, 60 + 4 * i, 70 + 2 * i], [900 - 2 * i, 500, 980 - 2 * i, 580]])


@pytest.mark.parametrize("count", [1, 2, 5, 6, 7, 8, 50])
@pytest.mark.parametrize("batch", [1, 8])
def test_even_motion_is_interpolated_exactly(count: int, batch: int) -> None:
    """Boxes, landmarks and scores between keyframes are the truth where it is linear, at a fraction of the work."""
    detector = Oracle(linear, batch)
    for i, detected in enumerate(run(detector, film(count))):
        np.testing.assert_allclose(detected.faces.boxes, linear(i), atol=1e-3)
        assert detected.faces.landmarks is not None
        np.testing.assert_allclose(detected.faces.landmarks[:, 4], linear(i)[:, :2] + 4, atol=1e-3)
        np.testing.assert_allclose(detected.faces.scores, 0.9)
    assert len(detector.asked) <= (count - 1) / GAP_FRAMES + 2
    assert len(set(detector.asked)) == len(detector.asked)


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("start", range(5, 20))
def test_a_face_that_comes_and_goes_is_found_to_the_frame(start: int, batch: int) -> None:
    """A second face is in exactly the frames in which it is there, wherever the keyframes are."""
    there = range(start, start + 13)

    def scene(i: int) -> np.ndarray:
        return linear(i)[: 2 if i in there else 1]

    assert [len(d.faces) for d in run(Oracle(scene, batch), film(45))] == [2 if i in there else 1 for i in range(45)]


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("cut", range(4, 16))
def test_nothing_is_interpolated_across_a_cut(cut: int, batch: int) -> None:
    """Faces near enough to match on both sides of a cut keep their own boxes up to it and from it on."""

    def scene(i: int) -> np.ndarray:
        return np.array([[100.0, 100, 200, 200]]) + (40 if i >= cut else 0)

    found = run(Oracle(scene, batch), film(30, cuts=[cut]))
    assert [d.frame.frame_index for d in found if d.starts_shot] == [cut]
    for i, detected in enumerate(found):
        np.testing.assert_array_equal(detected.faces.boxes, scene(i))


def test_cuts_one_after_the_other() -> None:
    """Shots of one frame are shots."""
    found = run(Oracle(linear, 8), film(12, cuts=[5, 6, 7]))
    assert [d.frame.frame_index for d in found if d.starts_shot] == [5, 6, 7]


def test_a_slow_change_of_light_is_no_cut() -> None:
    """A picture that gets brighter evenly is one shot."""
    frames = [DecodedFrame(i, i / FPS, np.full((90, 160, 3), 4 * i, np.uint8)) for i in range(60)]
    empty = Oracle(lambda _: np.empty((0, 4)))
    assert not any(d.starts_shot for d in KeyframeDetection(empty, 10, 0, None).run(frames))


@pytest.mark.parametrize("seed", range(6))
def test_batches_change_nothing(seed: int) -> None:
    """With faces, cuts and unreadable frames at random, a detector for eight frames at once gives the same."""
    rng = np.random.default_rng(seed)
    seen = rng.random((120, 4)) < np.repeat(rng.random((12, 4)), 10, axis=0)
    cuts = [int(c) for c in np.flatnonzero(rng.random(120) < 0.05)]
    unreadable = [int(u) for u in np.flatnonzero(rng.random(120) < 0.1)]

    def scene(i: int) -> np.ndarray:
        corners = np.array([[x, 100 + 20 * np.sin(i / 9), x + 90, 190] for x in (50, 250, 450, 650)])
        return np.asarray(corners[seen[i]])

    single, batched = (run(Oracle(scene, batch), film(120, cuts, unreadable)) for batch in (1, 8))
    for a, b in zip(single, batched, strict=True):
        assert a.starts_shot == b.starts_shot
        np.testing.assert_array_equal(a.faces.boxes, b.faces.boxes)
        np.testing.assert_array_equal(a.faces.scores, b.faces.scores)


def test_unreadable_frames_have_no_faces() -> None:
    """A frame without a picture has no face, be it a keyframe or not; its neighbours have theirs."""
    unreadable = [0, 6, 7, 15, 29]
    found = run(Oracle(linear), film(30, unreadable=unreadable))
    assert [len(d.faces) for d in found] == [0 if i in unreadable else 2 for i in range(30)]
    for i in set(range(30)) - set(unreadable):
        np.testing.assert_allclose(found[i].faces.boxes, linear(i), atol=1e-3)


def test_the_detectors_order_does_not_matter() -> None:
    """A detector that lists the faces in another order at each keyframe does not mix them up between."""

    def scene(i: int) -> np.ndarray:
        return linear(i)[:: -1 if i // GAP_FRAMES % 2 else 1]

    for i, detected in enumerate(run(Oracle(scene), film(40))):
        found = detected.faces.boxes
        np.testing.assert_allclose(found[np.argsort(found[:, 0])], linear(i), atol=1e-3)


def test_no_frames_at_all() -> None:
    """Nothing in, nothing out."""
    assert run(Oracle(linear), []) == []


def test_the_largest_faces_are_kept_in_the_detectors_order() -> None:
    """Faces narrower than `min_face_px` go, then all but the `max_faces` largest."""
    sizes = (50, 15, 80, 16, 60)

    def scene(i: int) -> np.ndarray:
        return np.array([[100 * k, 0, 100 * k + size, size] for k, size in enumerate(sizes)])

    for faces, smallest, expected in ((10, 16, [50, 80, 16, 60]), (2, 16, [80, 60]), (10, 100, []), (1, 0, [80])):
        for detected in run(Oracle(scene), film(8), max_faces=faces, min_face_px=smallest):
            widths = detected.faces.boxes[:, 2] - detected.faces.boxes[:, 0]
            assert widths.tolist() == expected


def test_rare_samples_are_each_looked_at() -> None:
    """At less than five frames a second every frame is a keyframe."""
    detector = Oracle(linear)
    frames = [DecodedFrame(f.frame_index, f.frame_index / 4, f.image) for f in film(10)]
    run(detector, frames)
    assert sorted(detector.asked) == list(range(10))
