"""Views that landmarks are learnt from: they show the landmarks where they say, and depend on their seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from worker.core.affine import moved, similarity
from worker.core.records import Detections, Floats, Image
from worker.faces.refinement import USUAL, VIEW_PX, RefinementNet, RefinementSizes, initialise
from worker.training.detector.material import Material
from worker.training.detector.refining import (
    CANVAS_PX,
    CANVAS_SHOWS,
    RefinementTask,
    ask_again,
    draw_views,
    upright_faces,
)
from worker.training.detector.settings import DetectorSettings, ViewSettings
from worker.training.journal import Journal
from worker.training.loop import Run
from worker.training.place import Place, generator

PLACE = Place(torch.device("cpu"), 0, 1)
PLAIN = ViewSettings(coarse=0, covered=0, noise=0)


def picture_of(degrees: float) -> tuple[Image, Floats]:
    """A grey picture of a face that leans: nothing but a bright dot at its nose; and its row of 14."""
    marks = moved(USUAL, similarity((0.5, 0.5), (90.5, 70.3), (60, 60), degrees)).astype(np.float32)
    picture = np.zeros((140, 180), np.uint8)
    cv2.circle(picture, (round(float(marks[2, 0] - 0.5)), round(float(marks[2, 1] - 0.5))), 3, 255, -1)
    return picture, np.concatenate([[60, 40, 120, 100], marks.reshape(-1)]).astype(np.float32)


@pytest.mark.parametrize("degrees", [0.0, 30.0, -40.0])
def test_canvases_are_upright(degrees: float) -> None:
    """Whatever the face's lean, its landmarks lie in the usual places of the canvas, and the nose's dot with them."""
    picture, row = picture_of(degrees)
    faces = upright_faces([picture], row[None])
    places = (USUAL - 0.5) / CANVAS_SHOWS * 2
    assert faces.marks[0].numpy() == pytest.approx(places, abs=1e-3)
    brightest = np.argwhere(faces.canvases[0].numpy() > 200).mean(axis=0)[::-1] + 0.5
    assert brightest == pytest.approx((places[2] + 1) / 2 * CANVAS_PX, abs=1)


def test_views_show_landmarks_where_they_say() -> None:
    """Turned, moved, scaled, mirrored and narrowed: the dot is where the nose is said to be."""
    picture, row = picture_of(0)
    faces = upright_faces([picture], row[None])
    canvases, marks = faces.canvases.expand(64, -1, -1), faces.marks.expand(64, -1, -1)
    batch = draw_views(canvases, marks, generator(1), PLAIN, worsened=False)
    assert batch.views.shape == (64, 1, VIEW_PX, VIEW_PX)
    ys, xs = np.mgrid[:VIEW_PX, :VIEW_PX] + 0.5
    for view, places in zip(batch.views[:, 0].numpy(), batch.marks.numpy(), strict=True):
        dot = np.array([(xs * view).sum(), (ys * view).sum()]) / view.sum() / VIEW_PX
        assert dot == pytest.approx(places[2], abs=0.012)
        right, left = places[0], places[1]
        assert right[0] < left[0]  # the person's right eye is on the left also where the view is mirrored
    assert batch.marks[:, 2].std(dim=0).min() > 0.02


def test_worse_views_show_the_same_landmarks() -> None:
    """Light, blur, noise and covers change pixels only, within 0..255."""
    picture, row = picture_of(0)
    faces = upright_faces([picture], row[None])
    canvases, marks = faces.canvases.expand(32, -1, -1), faces.marks.expand(32, -1, -1)
    plain = draw_views(canvases, marks, generator(4), ViewSettings(), worsened=False)
    worse = draw_views(canvases, marks, generator(4), ViewSettings(), worsened=True)
    again = draw_views(canvases, marks, generator(4), ViewSettings(), worsened=True)
    other = draw_views(canvases, marks, generator(5), ViewSettings(), worsened=True)
    assert torch.equal(plain.marks, worse.marks)
    assert not torch.equal(plain.views, worse.views)
    assert torch.equal(worse.views, again.views)
    assert not torch.equal(worse.views, other.views)
    assert 0 <= float(worse.views.min()) <= float(worse.views.max()) <= 255


def test_an_untrained_network_leaves_landmarks_and_learns_to_move_them() -> None:
    """At first the error is that of the misplaced views; a few steps on one face bring it down."""
    picture, row = picture_of(0)
    faces = upright_faces([picture] * 32, np.stack([row] * 32))
    torch.manual_seed(1)
    net = RefinementNet(RefinementSizes((8, 8, 8, 8, 8), 8))
    initialise(net)
    settings = replace(DetectorSettings(), views=PLAIN)
    task = RefinementTask(settings, faces, faces, net, PLACE)
    before = task.validate(net.eval())
    assert before["landmark_error"] == pytest.approx(before["unrefined_error"], rel=0.05)
    optimiser = torch.optim.AdamW(net.parameters(), 5e-3)
    net.train()
    for batch in task.batches([torch.arange(32)] * 60, 0, 0):
        optimiser.zero_grad()
        loss = task.loss(net, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    after = task.validate(net.eval())
    assert after["landmark_error"] < 0.8 * before["landmark_error"]
    assert after["challenge_metric"] == pytest.approx(1 - after["landmark_error"])


class Usual:
    """A teacher that finds one usual face in the middle of every view."""

    name, batch = "usual", 1

    def __init__(self) -> None:
        self.asked = 0

    def detect(self, images: Sequence[Image], min_score: float | None) -> list[Detections]:
        self.asked += len(images)
        found = []
        for image in images:
            middle = np.array([image.shape[1], image.shape[0]], np.float32) / 2
            marks = (USUAL - 0.5) * 60 + middle
            box = np.concatenate([middle - 50, middle + 50])[None]
            found.append(Detections(box, np.ones(1, np.float32), marks[None].astype(np.float32)))
        return found


def test_the_teacher_is_asked_once_about_the_same(tmp_path: Path) -> None:
    """A resumed run learns from the same landmarks; about other data or of another teacher it is asked anew."""
    picture, row = picture_of(0)
    moved_row = row + np.tile(np.array([7, -5], np.float32), 7)
    material = Material([picture, picture], np.stack([row, moved_row]), [], [], [picture], row[None])
    run = Run(tmp_path, PLACE, Journal(None, shown=False), 1, half_precision=False)
    teacher = Usual()
    first = ask_again(material, teacher, run, {"data": "1"}, 0)
    for before, after in ((row, first.faces[0]), (moved_row, first.faces[1]), (row, first.tight_faces[0])):
        assert np.array_equal(before[:4], after[:4])
        middle = (before[:2] + before[2:4]) / 2
        # Every view has the face's middle at its own middle, give or take the views' offsets and turns.
        assert after[4:].reshape(5, 2).mean(axis=0) == pytest.approx(middle, abs=14)
        assert not np.array_equal(before[4:], after[4:])
    silent = Usual()
    again = ask_again(material, silent, run, {"data": "1"}, 0)
    assert silent.asked == 0
    assert np.array_equal(first.faces, again.faces)
    assert np.array_equal(first.tight_faces, again.tight_faces)
    other = Usual()
    ask_again(material, other, run, {"data": "2"}, 0)
    assert other.asked >= 3
    (tmp_path / "landmarks.npz").write_bytes(b"damaged")
    ask_again(material, other, run, {"data": "2"}, 0)
