"""Hiding removes the faces from a picture, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from worker.core.records import DecodedFrame, Image
from worker.inference.hiding import FrameFaces
from worker.jobs.hide import CELLS, MARGIN, Hiding, OtherFramesError, hidden, hide

HOW: list[Hiding] = ["blur", "pixelate"]


def noise(height: int = 120, width: int = 160) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


@pytest.mark.parametrize("how", HOW)
def test_a_face_and_a_margin_are_hidden(how: Hiding) -> None:
    """Only the means of a few cells remain of the face; outside the margin nothing changes; the source stays."""
    picture = noise()
    before = picture.copy()
    made = hide(picture, boxes((50, 40, 80, 80)), how)
    assert np.array_equal(picture, before)
    margin = round(MARGIN * 40)
    inside = np.zeros(picture.shape[:2], bool)
    inside[40 - margin : 80 + margin, 50 - margin : 80 + margin] = True
    assert np.array_equal(made[~inside], picture[~inside])
    assert made[inside].astype(int).std() < 20 < picture[inside].astype(int).std()
    if how == "pixelate":
        assert len(np.unique(made[inside], axis=0)) <= CELLS[how] ** 2


@pytest.mark.parametrize("how", HOW)
def test_faces_at_the_edge_and_beyond(how: Hiding) -> None:
    """Boxes may leave the picture, be tiny, or lie outside of it."""
    picture = noise()
    beyond = boxes((-20, -20, 30, 30), (150, 110, 190, 150), (70, 70, 70.5, 71), (500, 500, 600, 600))
    made = hide(picture, beyond, how)
    assert made[:30, :30].astype(int).std() < 25
    assert made[115:, 155:].astype(int).std() < 25
    assert np.array_equal(made[40:60, 60:120], picture[40:60, 60:120])
    assert np.array_equal(hide(picture, boxes(), how), picture)


@pytest.mark.parametrize("how", HOW)
def test_face_crops_are_hidden_whole(how: Hiding) -> None:
    """If every picture is a face crop, the whole picture is hidden."""
    frames = [DecodedFrame(0, 0.5, noise()), DecodedFrame(1, 0.6, None)]
    ((time, made),) = hidden(frames, None, how)
    assert time == 0.5
    assert made.astype(int).std() < 20


def test_faces_of_other_frames_are_refused() -> None:
    """A frame is never shown with the faces of another."""
    frames = [DecodedFrame(i, i / 25, noise()) for i in range(3)]
    faces = [FrameFaces(i, boxes()) for i in (0, 2, 3)]
    with pytest.raises(OtherFramesError):
        list(hidden(frames, faces, "blur"))
    with pytest.raises(ValueError, match="shorter"):
        list(hidden(frames, faces[:1], "blur"))
