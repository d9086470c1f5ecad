"""Marked frames: what counts as found and as false."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from worker.core.picture import Shown, whole
from worker.core.records import Detections, Image
from worker.errors import CommandError
from worker.evaluation.marked_frames import Box, Found, MarkedFrame, count, measure, read_marks


def marked(*faces: Box, ignore: Sequence[Box] = (), width: int = 640, height: int = 360) -> MarkedFrame:
    return MarkedFrame(name="a.png", width=width, height=height, faces=faces, ignore=tuple(ignore))


def counted(frame: MarkedFrame, *boxes: Box) -> Found:
    """Boxes as x, y, width, height."""
    corners = np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], np.float32).reshape(-1, 4)
    tally = Found()
    count(tally, frame, corners)
    return tally


def test_a_box_on_a_mark_finds_it() -> None:
    """Where they overlap enough; a box beside it is false and finds nothing."""
    frame = marked((100, 100, 40, 40))
    assert (counted(frame, (104, 102, 40, 40)).found, counted(frame, (104, 102, 40, 40)).false_boxes) == (1, 0)
    assert (counted(frame, (130, 100, 40, 40)).found, counted(frame, (130, 100, 40, 40)).false_boxes) == (0, 1)


def test_one_box_finds_one_mark_and_one_mark_needs_one_box() -> None:
    """A second box on a face is false; a box over two faces finds one; the best pairs count first."""
    tally = counted(marked((100, 100, 40, 40)), (100, 100, 40, 40), (104, 100, 40, 40))
    assert (tally.found, tally.false_boxes) == (1, 1)
    tally = counted(marked((100, 100, 40, 40), (120, 100, 40, 40)), (110, 100, 40, 40))
    assert (tally.faces, tally.found, tally.false_boxes) == (2, 1, 0)
    tally = counted(marked((100, 100, 40, 40), (112, 100, 40, 40)), (110, 100, 40, 40), (96, 100, 40, 40))
    assert (tally.found, tally.false_boxes) == (2, 0)


def test_faces_are_large_in_the_pixels_of_a_reduced_frame() -> None:
    """24 pixels at 640: 72 in a frame of 1920, whichever side is the longer; small frames are not enlarged."""
    for width, height, side in ((1920, 1080, 72), (1080, 1920, 72), (640, 360, 24), (320, 180, 24)):
        tally = counted(marked((0, 0, side, side), (200, 0, side - 1, side), width=width, height=height))
        assert (tally.faces, tally.large_faces) == (2, 1)
    frame = marked((0, 0, 40, 40), (100, 0, 10, 10))
    tally = counted(frame, (100, 0, 10, 10))
    assert (tally.found, tally.large_found) == (1, 0)
    tally = counted(frame, (0, 0, 40, 40))
    assert (tally.found, tally.large_found) == (1, 1)


def test_ignored_regions_count_neither_way() -> None:
    """A box whose middle lies in one, or that overlaps it, is excused; a mark there is still to be found."""
    frame = marked((500, 0, 40, 40), ignore=[(100, 100, 200, 100)])
    assert counted(frame, (120, 120, 30, 30)).false_boxes == 0
    assert counted(frame, (90, 90, 220, 120)).false_boxes == 0
    assert counted(frame, (320, 100, 30, 30)).false_boxes == 1
    assert counted(frame).faces == 1


def test_empty_frames_and_no_boxes() -> None:
    """A frame without a face counts as a frame, and each of its boxes as false."""
    assert counted(marked(), (0, 0, 30, 30), (60, 0, 30, 30)).false_boxes == 2
    tally = counted(marked())
    assert (tally.frames, tally.faces, tally.found, tally.false_boxes) == (1, 0, 0, 0)


def test_figures_are_shares() -> None:
    """Of all faces, of the large ones, and boxes a frame; nothing to divide by is no error."""
    figures = Found(frames=4, faces=8, found=6, large_faces=5, large_found=5, false_boxes=1).figures()
    assert (figures["recall"], figures["large_recall"], figures["false_boxes_a_frame"]) == (0.75, 1.0, 0.25)
    assert Found().figures()["recall"] == 0


class Fixed:
    """Finds one face in the picture's brightest place, and notes the thresholds."""

    name, batch = "fixed", 1

    def __init__(self) -> None:
        self.asked: list[float | None] = []

    def detect(
        self, images: Sequence[Shown], min_score: float | None, *, frame_side_px: int | None = None
    ) -> list[Detections]:
        self.asked.append(min_score)
        return [self._found(whole(image)) for image in images]

    def _found(self, image: Image) -> Detections:
        ys, xs = np.nonzero(image[..., 0] > 200)  # red
        if not len(xs):
            return Detections.none()
        box = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float32)
        return Detections(box, np.ones(1, np.float32), np.zeros((1, 5, 2), np.float32))


def picture(path: Path, place: tuple[int, int] | None) -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    if place is not None:
        image[place[1] : place[1] + 30, place[0] : place[0] + 30] = (0, 0, 255)  # OpenCV writes BGR
    cv2.imwrite(str(path), image)


def test_every_frame_of_the_folder_is_measured(tmp_path: Path) -> None:
    """In RGB, at the caller's threshold; marks of missing frames are ignored."""
    picture(tmp_path / "a.png", (20, 40))
    picture(tmp_path / "b.png", None)
    marks = {
        "frames": [
            {"name": "a.png", "width": 160, "height": 120, "faces": [[20, 40, 30, 30]]},
            {"name": "b.png", "width": 160, "height": 120, "faces": [[20, 40, 30, 30]], "ignore": [[0, 0, 9, 9]]},
            {"name": "gone.png", "width": 160, "height": 120, "faces": [[20, 40, 30, 30]]},
        ]
    }
    (tmp_path / "marks.json").write_text(json.dumps(marks))
    detector = Fixed()
    tally = measure(detector, read_marks(tmp_path / "marks.json"), tmp_path, 0.4)
    assert (tally.frames, tally.faces, tally.found, tally.false_boxes) == (2, 2, 1, 0)
    assert detector.asked == [0.4, 0.4]


def test_a_folder_without_the_frames_is_an_error(tmp_path: Path) -> None:
    """That names it."""
    with pytest.raises(CommandError, match=tmp_path.name):
        measure(Fixed(), (marked(),), tmp_path, None)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"frames": [{"name": "a"}]}', '{"frames": 3}', "\x80"])
def test_other_files_are_no_marks(tmp_path: Path, text: str) -> None:
    """One line that names the file; a missing one, too."""
    path = tmp_path / "marks.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CommandError, match=r"marks\.json") as error:
        read_marks(path)
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(CommandError, match=r"marks\.json"):
        read_marks(path)
