"""Error of yaw, pitch and roll: on heads made of points, and on a portrait that is turned as a solid head.

    python -m tests.bench.poses

Points: 4,000 heads whose five landmarks differ from the generic head as people's do (taken as 2 mm along each axis),
seen by a camera 0.4 to 2 m away, turned by up to 45, 25 and 30 degrees, their landmarks off by 0.033 eye distances,
which is what the default detector's are on upright faces (docs/faces.md).  Portrait: the astronaut, which is in the
public domain, laid on an ellipsoid with a nose and turned; the default detector marks it, and what counts is the turn
since the portrait.
"""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import numpy.typing as npt
from skimage import data

from worker.core.pose import HEAD, poses, rotation
from worker.inference.detectors import open_finder

HEADS = 4000
SHAPE_MM, NOISE_EYE_DISTANCES = 2.0, 0.033
Picture = npt.NDArray[np.uint8]


def main() -> None:
    """Print errors in degrees."""
    angles, errors = synthetic(np.random.default_rng(0))
    print(f"points, {HEADS} heads: mean absolute error, and its 95th percentile")
    for name, upto in (("turned by up to 15", 15), ("up to 30", 30), ("all", 90)):
        near = np.abs(angles).max(axis=1) <= upto
        print(f"  {name:20} {shown(errors[near])}")
    finder = open_finder(None, "cpu")
    portrait = np.asarray(data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]
    (start,) = poses(finder.detect([portrait], None)[0].landmarks[:1])
    found = []
    for axis, degrees in itertools.product(range(3), (-40, -30, -20, -10, 10, 20, 30, 40)):
        turn = [0.0, 0.0, 0.0]
        turn[axis] = degrees * (0.6 if axis == 1 else 1)
        faces = finder.detect([turned(portrait, *turn)], None)[0]
        if len(faces):
            (now,) = poses(faces.landmarks[:1])
            found.append((axis, turn[axis], np.subtract(now, start)))
    print(f"portrait, {len(found)} of 24 turns found")
    for axis, name in enumerate(("yaw", "pitch", "roll")):
        rows = [(turn, round(float(change[axis]), 1)) for which, turn, change in found if which == axis]
        error = np.mean([abs(turn - change) for turn, change in rows])
        print(f"  {name:6} mean absolute error {error:.1f}: {rows}")


def shown(errors: npt.NDArray[np.float64]) -> str:
    """Of yaw, pitch and roll."""
    means, high = np.abs(errors).mean(axis=0), np.quantile(np.abs(errors), 0.95, axis=0)
    return "  ".join(
        f"{name} {m:.1f} ({h:.1f})" for name, m, h in zip(("yaw", "pitch", "roll"), means, high, strict=True)
    )


def synthetic(random: np.random.Generator) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Angles (N, 3) of heads, and the errors of what is found."""
    angles = random.uniform(-1, 1, (HEADS, 3)) * (45, 25, 30)
    pictures = []
    for yaw, pitch, roll in angles:
        head = HEAD + random.normal(0, SHAPE_MM, HEAD.shape)
        points = (head - HEAD.mean(axis=0)) @ rotation(yaw, pitch, roll).T
        distance = random.uniform(400, 2000)
        seen = points[:, :2] / (distance + points[:, 2:]) * distance
        pictures.append(seen + random.normal(0, NOISE_EYE_DISTANCES * 63 / np.sqrt(2), seen.shape))
    return angles, np.array(poses(np.array(pictures, np.float32))) - angles


def turned(portrait: Picture, yaw: float, pitch: float, roll: float) -> Picture:
    """The portrait's head, turned, before a grey ground."""
    millimetre, centre = 63 / 41, np.array([224.0, 112.0])  # the astronaut's eyes are 41 px apart
    fine = 2
    rows, columns = np.mgrid[0 : 300 * fine, 90 * fine : 360 * fine].reshape(2, -1) / fine
    x, y = (columns - centre[0]) * millimetre, (rows - centre[1]) * millimetre
    inside = (x / 75) ** 2 + ((y - 25) / 110) ** 2
    on_head = inside < 0.95
    z = 85 - 95 * np.sqrt(np.maximum(1 - inside, 0)) - 15.5 * np.exp(-((x / 10) ** 2) - ((y - 36) / 14) ** 2)
    points = np.stack([x, y, z], axis=1)[on_head] - (0, 25, 60)
    points = points @ rotation(yaw, pitch, roll).T + (0, 25, 60)
    colours = portrait[rows.astype(int), columns.astype(int)][on_head]
    scale = 800 / (800 + points[:, 2:])
    places = np.rint(points[:, :2] * scale / millimetre + centre).astype(int)
    order = np.argsort(-points[:, 2])  # near ones last, over the others
    picture = np.full((360, 460, 3), 128, np.uint8)
    there = ((places >= 0) & (places < (460, 360))).all(axis=1)[order]
    column, row = places[order][there].T
    picture[row, column] = colours[order][there]
    empty = np.ones(picture.shape[:2], np.uint8)
    empty[row, column] = 0
    holes = cv2.morphologyEx(1 - empty, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) & empty
    return np.asarray(cv2.inpaint(picture, holes, 3, cv2.INPAINT_TELEA), np.uint8)


if __name__ == "__main__":
    main()
