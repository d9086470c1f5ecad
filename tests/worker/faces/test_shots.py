"""Detection of cuts and of changed regions in the 80 x 45 thumbnail."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
import pytest

from tests.worker.faces.pictures import portrait
from worker.core.picture import whole as pixels
from worker.core.records import Detections, Image
from worker.faces.shots import (
    ABOVE,
    BELOW,
    BESIDE,
    CUT_DIFFERENCE,
    SIZE,
    Change,
    Region,
    ShotCuts,
    beyond_faces,
    thumbnail,
)

NO_BOXES = np.empty((0, 4), np.float32)


def room(height: int = 360, width: int = 640, seed: int = 0) -> Image:
    """A soft background."""
    small = np.random.default_rng(seed).integers(60, 200, (9, 16, 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def cuts(images: Sequence[Image]) -> list[int]:
    found = ShotCuts()
    return [i for i, image in enumerate(images) if found.is_cut(thumbnail(image))]


def changed(before: Image, after: Image) -> np.ndarray:
    return Change(thumbnail(before)).cells(thumbnail(after))


def with_object(image: Image, x: int, y: int, side: int) -> Image:
    image = image.copy()
    image[y : y + side, x : x + side] = (250, 20, 240)
    return image


@pytest.mark.parametrize("size", [(1, 1), (45, 80), (360, 640), (2160, 3840), (4000, 30)])
def test_every_frame_has_a_thumbnail_of_one_size(size: tuple[int, int]) -> None:
    """Whatever its shape; a plain frame is plain."""
    small = thumbnail(np.full((*size, 3), 77, np.uint8))
    assert small.shape == (SIZE[1], SIZE[0], 3)
    assert (small == 77).all()


def test_another_picture_is_a_cut() -> None:
    """At the frame that starts the shot, and one after the other."""
    shots = [room(seed=i) // (1 + i % 2) for i in range(4)]
    films = [shots[0]] * 5 + [shots[1]] * 5 + [shots[2], shots[3], shots[3]]
    assert cuts(films) == [5, 10, 11]


def test_the_first_frame_is_no_cut() -> None:
    """There is nothing before it."""
    assert cuts([room()]) == []


def test_a_slow_change_of_light_is_no_cut() -> None:
    """A picture that gets brighter evenly is one shot."""
    assert cuts([np.full((90, 160, 3), 4 * i, np.uint8) for i in range(60)]) == []


def test_a_fast_pan_is_no_cut() -> None:
    """A usual amount of change is no cut; in a static scene the same amount is."""
    blocks = np.random.default_rng(2).integers(0, 256, (6, 90, 3), np.uint8)
    wide = np.asarray(cv2.resize(blocks, (4000, 360)), np.uint8)
    places = np.cumsum(np.minimum(np.arange(70), 30))  # it speeds up to 30 pixels a frame
    pan = [wide[:, x : x + 640] for x in places.tolist()]
    differences = [np.abs(thumbnail(a).astype(int) - thumbnail(b)).mean() for a, b in pairwise(pan)]
    assert max(differences) > CUT_DIFFERENCE
    assert cuts(pan) == []
    still = [wide[:, :640]] * 40
    assert cuts([*still, *(255 - image // 4 for image in still)]) == [40]


def test_the_same_picture_has_not_changed() -> None:
    """Nor with the noise of a camera, nor a little brighter."""
    image = room()
    noise = np.random.default_rng(1).normal(0, 8, image.shape)
    for same in (image, np.clip(image + noise, 0, 255).astype(np.uint8), image + 12):
        assert not changed(image, np.asarray(same, np.uint8)).any()


@pytest.mark.parametrize("shift", [(8, 0), (0, 8), (-8, 8)])
def test_a_camera_that_shakes_by_a_cell_changes_nothing(shift: tuple[int, int]) -> None:
    """An edge that moves to the next cell brings no new colour."""
    wide = room(400, 700)
    wide[100:300, 200:500] = (250, 240, 20)
    wide[150:250, 300:400] = (10, 10, 10)
    before, after = (wide[20 + y : 380 + y, 30 + x : 670 + x] for x, y in ((0, 0), shift))
    assert beyond_faces(changed(before, after), NO_BOXES, before) is None


@pytest.mark.parametrize("place", [(0, 0), (300, 160), (600, 320), (5, 330)])
def test_something_new_is_in_the_region(place: tuple[int, int]) -> None:
    """All of it with a margin, as far as the frame goes, and not the whole frame."""
    image = room()
    x, y = place
    region = beyond_faces(changed(image, with_object(image, x, y, 40)), NO_BOXES, image)
    assert region is not None
    assert (region.left, region.top) <= (x, y)
    assert region.top <= y
    assert (region.right, region.bottom) >= (min(x + 40, 640), min(y + 40, 360))
    assert region.bottom >= min(y + 40, 360)
    assert (region.right - region.left) * (region.bottom - region.top) < 0.5 * 640 * 360
    assert region.share(image) == pytest.approx((region.right - region.left) * (region.bottom - region.top) / 230400)
    assert 0 <= region.left < region.right <= 640
    assert 0 <= region.top < region.bottom <= 360
    assert not region.is_whole


def test_a_speck_is_nothing_new() -> None:
    """One cell is no face."""
    image = room()
    assert beyond_faces(changed(image, with_object(image, 304, 160, 8)), NO_BOXES, image) is None


def test_what_a_known_person_does_is_nothing_new() -> None:
    """Beside, above and below a known face; with the box elsewhere the same is new."""
    image, box = room(), np.array([[300, 60, 360, 130]], np.float32)
    inside = [(310, 70), (300 - int(BESIDE * 60) + 2, 100), (360 + int(BESIDE * 60) - 42, 90)]
    inside += [(310, 60 - int(ABOVE * 60) + 2), (310, 130 + int(BELOW * 60) - 44)]
    for x, y in inside:
        cells = changed(image, with_object(image, x, y, 40))
        assert beyond_faces(cells, box, image) is None, (x, y)
        assert beyond_faces(cells, np.array([[20, 60, 50, 90]], np.float32), image) is not None
        assert beyond_faces(cells, NO_BOXES, image) is not None


def test_something_new_beside_a_known_person_is_seen() -> None:
    """The region holds it, whatever the person does meanwhile."""
    image, box = room(), np.array([[300, 60, 360, 130]], np.float32)
    after = with_object(with_object(image, 320, 200, 40), 560, 100, 40)
    region = beyond_faces(changed(image, after), box, image)
    assert region is not None
    assert region.left > 400
    assert region.left <= 560
    assert region.right >= 600
    assert region.top <= 100
    assert region.bottom >= 140


@pytest.mark.parametrize("box", [(-300, -300, -100, -100), (900, 500, 980, 580), (-40, -40, 700, 400)])
def test_boxes_beyond_the_frame(box: tuple[float, ...]) -> None:
    """A face that is partly or wholly outside hides what it covers alone."""
    image = room()
    cells = changed(image, with_object(image, 300, 160, 40))
    covered = box[0] < 300 < box[2]
    assert (beyond_faces(cells, np.array([box], np.float32), image) is None) == covered


def test_a_region_shows_its_part_and_puts_faces_back() -> None:
    """Boxes and landmarks come back in the frame's pixels; the whole frame is itself."""
    image = portrait()
    region = Region(100, 40, 300, 200)
    assert np.array_equal(pixels(region.of(image)), image[40:200, 100:300])
    marks = np.arange(10, dtype=np.float32).reshape(1, 5, 2)
    found = Detections(np.array([[1, 2, 30, 40]], np.float32), np.array([0.7], np.float32), marks)
    back = region.faces(found)
    assert back.boxes.tolist() == [[101, 42, 130, 80]]
    assert np.array_equal(back.landmarks, marks + np.array((100, 40)))
    assert back.scores.tolist() == found.scores.tolist()
    whole = Region.whole(image)
    assert whole.is_whole
    assert whole.share(image) == 1
    assert whole.of(image) is image
    assert whole.faces(found).boxes.tolist() == found.boxes.tolist()
