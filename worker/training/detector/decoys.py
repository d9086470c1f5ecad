"""What surrounds a face, and what looks like one and is none: heads without a face, pieces of portraits."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from worker.core.affine import Map
from worker.core.records import Image
from worker.training.detector.pictures import Rng, random_colour, tinted
from worker.training.detector.placing import ellipse_points, paste, polygon

HAIR = ((20, 16, 14), (45, 32, 24), (85, 60, 40), (150, 115, 75), (200, 175, 130), (125, 125, 125), (215, 215, 215))
FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
)
FONT_PX = 22.0  # height of a capital letter at scale 1
TILES = 4  # a shuffled portrait is this many pieces high and wide


def paste_head(scene: Image, face: npt.NDArray[np.float32], how: Map, rng: Rng) -> None:
    """Shoulders, neck and hair around where the face will be; changes the scene."""
    x, y = (face[:2] + face[2:4]) / 2
    width, height = face[2:4] - face[:2]
    skin = _skin(rng)
    if rng.random() < 0.8:
        wide = width * rng.uniform(1.0, 1.6)
        polygon(
            scene, ellipse_points(x, y + height * 1.25, wide, height * rng.uniform(0.45, 0.7)), random_colour(rng), how
        )
    neck = width * rng.uniform(0.25, 0.36)
    column = [[x - neck, y], [x + neck, y], [x + neck, y + height * 0.85], [x - neck, y + height * 0.85]]
    polygon(scene, np.array(column, np.float64), skin, how)
    if rng.random() < 0.8:
        hair = HAIR[int(rng.integers(len(HAIR)))]
        up, down = rng.uniform(0.58, 0.75), rng.uniform(0.3, 1.0)
        middle = y + height * (down - up) / 2
        half_height = height * (down + up) / 2
        polygon(scene, ellipse_points(x, middle, width * rng.uniform(0.55, 0.8), half_height), hair, how)
    polygon(scene, ellipse_points(x, y, width * 0.5, height * 0.5), skin, how)


def paste_decoy(scene: Image, portrait: Image, face: npt.NDArray[np.float32], how: Map, rng: Rng, tint: float) -> None:
    """Something that is no face, where the map would put this portrait's face; changes the scene."""
    kind = rng.random()
    if kind < 0.4:
        paste_head(scene, face, how, rng)
        return
    picture = tinted(portrait, rng, tint)
    mask: Image = np.full(portrait.shape, 255, np.uint8)
    if kind < 0.75:
        picture = _shuffled(picture, rng)
    else:  # only what is above the eyes, or below the mouth
        marks = face[4:].reshape(5, 2)
        brow = int(marks[:2, 1].min() - 0.12 * (face[3] - face[1]))
        chin = int(marks[3:, 1].max() + 0.1 * (face[3] - face[1]))
        if rng.random() < 0.5:
            mask[max(brow, 1) :] = 0
        else:
            mask[: min(chin, mask.shape[0] - 1)] = 0
    paste(scene, picture, mask, how)


def paste_lettering(scene: Image, rng: Rng) -> None:
    """Captions, logos and signs: letters, and discs and rings as large as they are; changes the scene."""
    side = scene.shape[0]
    for _ in range(int(rng.integers(1, 4))):
        height = float(np.exp(rng.uniform(np.log(8), np.log(side / 3))))
        colour = random_colour(rng)
        x, y = int(rng.uniform(-0.2, 0.8) * side), int(rng.uniform(0.1, 1) * side)
        thickness = max(int(height * rng.uniform(0.06, 0.2)), 1)
        text = "".join(chr(code) for code in rng.integers(ord("!"), ord("~") + 1, int(rng.integers(1, 9))))
        font = FONTS[int(rng.integers(len(FONTS)))]
        cv2.putText(scene, text, (x, y), font, height / FONT_PX, colour, thickness, cv2.LINE_AA)
        for _ in range(int(rng.integers(0, 4))):
            place = (int(rng.uniform(0, 1) * side), int(rng.uniform(0, 1) * side))
            axes = (max(int(height * rng.uniform(0.3, 0.6)), 1), max(int(height * rng.uniform(0.35, 0.6)), 1))
            line = -1 if rng.random() < 0.6 else thickness
            cv2.ellipse(scene, place, axes, float(rng.uniform(0, 180)), 0, 360, random_colour(rng), line, cv2.LINE_AA)


def _shuffled(picture: Image, rng: Rng) -> Image:
    height, width = (picture.shape[0] // TILES * TILES, picture.shape[1] // TILES * TILES)
    if not height or not width:
        return picture
    tiles = picture[:height, :width].reshape(TILES, height // TILES, TILES, width // TILES, 3).swapaxes(1, 2)
    mixed = tiles.reshape(TILES * TILES, height // TILES, width // TILES, 3)[rng.permutation(TILES * TILES)]
    back = mixed.reshape(TILES, TILES, height // TILES, width // TILES, 3).swapaxes(1, 2)
    shuffled = picture.copy()
    shuffled[:height, :width] = back.reshape(height, width, 3)
    return shuffled


def _skin(rng: Rng) -> tuple[int, int, int]:
    level = rng.uniform(40, 235)
    red, green, blue = (np.array([1.0, rng.uniform(0.72, 0.95), rng.uniform(0.55, 0.9)]) * level).astype(int).tolist()
    return red, green, blue
