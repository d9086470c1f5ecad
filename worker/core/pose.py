"""Head pose from five landmarks and a generic head.

With a distant camera, a picture of the head is a scaled orthographic projection of its rotated points; the pose is the
least-squares rotation.  `python -m tests.bench.poses` measures the error.

Source: DeMenthon and Davis 1995, Model-based object pose in 25 lines of code (the first step, POS).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from worker.core.records import Floats

# An adult head: x to the picture's right, y down, z away from the camera, millimetres from between the eyes.
# x and y: the mean of three published alignment templates at 63 mm between the eyes; z: OpenCV's head model.
HEAD = np.array(
    [[-31.5, 0.0, 0.0], [31.5, 0.0, 0.0], [0.0, 36.0, -25.0], [-26.5, 68.0, 0.0], [26.5, 68.0, 0.0]], np.float64
)
_POINTS = HEAD - HEAD.mean(axis=0)
_FROM_POINTS = np.linalg.pinv(_POINTS)  # (3, 5)
_SAME, _DAMPING, _TINY = np.eye(3), 1e-9 * np.eye(4), 1e-24

Pose = tuple[float, float, float]


def poses(landmarks: Floats) -> list[Pose]:
    """Landmarks (N, 5, 2) in pixels -> yaw, pitch, roll in degrees: positive to the picture's right, up, clockwise."""
    if not len(landmarks):
        return []
    points = np.asarray(landmarks, np.float64)
    points = points - points.mean(axis=1, keepdims=True)
    # The rotation nearest to the affine map from head to points, then a Gauss-Newton step of rotation and scale.
    left, sizes, right = np.linalg.svd((_FROM_POINTS @ points).transpose(0, 2, 1), full_matrices=False)
    rows = left @ right  # (N, 2, 3)
    across = _skew(rows[:, 0]) @ rows[:, 1, :, None]  # (N, 3, 1)
    turns = np.concatenate([rows, across.transpose(0, 2, 1)], axis=1)  # (N, 3, 3)
    scales = (sizes[:, :1] + sizes[:, 1:]) / 2  # (N, 1)
    turned = _POINTS @ turns.transpose(0, 2, 1)  # (N, 5, 3)
    x, y, z = scales * turned[:, :, 0], scales * turned[:, :, 1], scales * turned[:, :, 2]
    slopes = np.zeros((len(points), 5, 2, 4))
    slopes[:, :, 0, 1], slopes[:, :, 0, 2], slopes[:, :, 1, 0], slopes[:, :, 1, 2] = z, -y, -z, x
    slopes[:, :, :, 3] = turned[:, :, :2]
    off = (points - scales[:, :, None] * turned[:, :, :2]).reshape(-1, 10, 1)
    jacobian = slopes.reshape(-1, 10, 4)
    transposed = jacobian.transpose(0, 2, 1)
    steps = np.linalg.solve(transposed @ jacobian + _DAMPING, transposed @ off)[:, :, 0]  # (N, 4)
    return [_angles(turn) for turn in (_rotations(steps[:, :3]) @ turns).tolist()]


def _rotations(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rotations (N, 3, 3) about the vectors (N, 3) by their lengths in radians.  Source: Rodrigues' formula."""
    cross = _skew(vectors)
    angles = np.sqrt((vectors * vectors).sum(axis=1) + _TINY)[:, None, None]
    first, second = np.sin(angles) / angles, (1 - np.cos(angles)) / angles**2
    return np.asarray(_SAME + first * cross + second * (cross @ cross), np.float64)


def _skew(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N, 3, 3) matrices whose product with a vector is the cross product of `vectors` (N, 3) with it."""
    made = np.zeros((len(vectors), 3, 3))
    made[:, 2, 1], made[:, 0, 2], made[:, 1, 0] = vectors.T
    return made - made.transpose(0, 2, 1)


def rotation(yaw: float, pitch: float, roll: float) -> npt.NDArray[np.float64]:
    """The rotation (3, 3) of a head with these angles in degrees; zeros look into the camera."""
    a, b, c = np.deg2rad([-pitch, -yaw, roll])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(about_x @ about_y @ about_z, np.float64)


def _angles(turn: list[list[float]]) -> Pose:
    """The angles of a rotation (3, 3)."""
    yaw = -math.asin(min(max(turn[0][2], -1.0), 1.0))
    pitch = math.atan2(turn[1][2], turn[2][2])
    roll = math.atan2(-turn[0][1], turn[0][0])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)
