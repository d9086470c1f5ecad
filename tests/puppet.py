"""A face that changes its expression: the astronaut's portrait, which is in the public domain, bent here and there.

Mouth and brows are moved by smooth displacements.  No expression is claimed: what each pose looks like, the models say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import cv2
import numpy as np
import numpy.typing as npt
from skimage import data

Picture = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]

MOUTH = (224.0, 147.0)  # pixels of the portrait
BROWS = ((201.6, 1.0), (252.0, -1.0))  # x, and towards the nose
BROW_Y = 91.0
FACE = (224.0, 125.0)


@dataclass(frozen=True)
class Pose:
    """Displacements in pixels of the portrait.  corner: of the mouth's corners, down.  open: of the lips, a share.
    brow, inner: of the brows and of their inner ends, up."""

    corner: float = 0
    open: float = 0
    brow: float = 0
    inner: float = 0

    def towards(self, other: Pose, share: float) -> Pose:
        """The pose on the way to another one, moving off and arriving gently."""
        eased = (1 - math.cos(math.pi * min(max(share, 0), 1))) / 2
        return Pose(*(a + (b - a) * eased for a, b in zip(astuple(self), astuple(other), strict=True)))


SMILE = Pose()
FLAT = Pose(corner=16)
GRIEF = Pose(corner=16, inner=8)
RAGE = Pose(corner=16, open=0.6, brow=-5, inner=-8)
WONDER = Pose(corner=18, open=1.4, brow=9)

Score = Sequence[tuple[float, Pose]]  # when which pose is reached, seconds


def pose_at(score: Score, time_s: float) -> Pose:
    """The pose at a time, between the two around it."""
    before = max((entry for entry in score if entry[0] <= time_s), default=score[0], key=lambda entry: entry[0])
    after = min((entry for entry in score if entry[0] > time_s), default=before, key=lambda entry: entry[0])
    span = after[0] - before[0]
    return before[1].towards(after[1], (time_s - before[0]) / span if span else 0)


class Puppet:
    """Draws poses."""

    def __init__(self) -> None:
        self._portrait = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR)  # type: ignore[no-untyped-call]
        height, width = self._portrait.shape[:2]
        self._x, self._y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        across, down = self._x - MOUTH[0], self._y - MOUTH[1]
        # How much each displacement counts at each pixel.
        corners = np.minimum((across / 20) ** 2, 1.6) * np.exp(-((down / 15) ** 2) - (across / 32) ** 4)
        self._bend = corners - 0.35 * np.exp(-((across / 14) ** 2) - (down / 15) ** 2)
        self._lips = np.exp(-((down / 20) ** 2) - (across / 26) ** 2)
        self._narrow = np.exp(-((down / 16) ** 2) - (across / 30) ** 2)
        above = ((self._y - BROW_Y) / 9) ** 2
        self._brows = sum(np.exp(-above - ((self._x - x) / 18) ** 2) for x, _ in BROWS)
        self._inner = sum(np.exp(-above - ((self._x - x - 10 * inwards) / 9) ** 2) for x, inwards in BROWS)

    def portrait(self, pose: Pose) -> Picture:
        """(512, 512, 3) BGR."""
        x, y = self._source(pose)
        return np.asarray(cv2.remap(self._portrait, x, y, cv2.INTER_LINEAR), np.uint8)

    def picture(
        self, pose: Pose, size: tuple[int, int], centre: tuple[float, float], zoom: float = 1, mirrored: bool = False
    ) -> Picture:
        """size: width, height.  centre: where the face is.  Beside the portrait, it is continued by reflection."""
        portrait = self.portrait(pose)
        sign, x = (-1, self._portrait.shape[1] - 1 - FACE[0]) if mirrored else (1, FACE[0])
        shown = np.ascontiguousarray(portrait[:, ::sign])
        matrix = np.array([[zoom, 0, centre[0] - zoom * x], [0, zoom, centre[1] - zoom * FACE[1]]], np.float32)
        return np.asarray(cv2.warpAffine(shown, matrix, size, borderMode=cv2.BORDER_REFLECT_101), np.uint8)

    def _source(self, pose: Pose) -> tuple[Field, Field]:
        """Where each pixel comes from."""
        across, down = self._x - MOUTH[0], self._y - MOUTH[1]
        x = MOUTH[0] + across * (1 + 0.25 * pose.open * self._narrow)
        y = MOUTH[1] + (down - pose.corner * self._bend) / (1 + pose.open * self._lips)
        y += pose.brow * self._brows + pose.inner * self._inner
        return x.astype(np.float32), y.astype(np.float32)
