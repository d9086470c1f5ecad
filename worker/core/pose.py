"""Head pose from five landmarks and a generic head.

With a distant camera, a picture of the head is a scaled orthographic projection of its rotated points; the pose is the
least-squares rotation.  `python -m tests.bench.poses` measures the error.

Source: DeMenthon and Davis 1995, Model-based object pose in 25 lines of code (the first step, POS).
"""

from __future__ import annotations

import math

import cv2
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
_STEPS = 2  # more steps change the angles by less than a tenth of a degree

Pose = tuple[float, float, float]


def poses(landmarks: Floats) -> list[Pose]:
    """Landmarks (N, 5, 2) in pixels -> yaw, pitch, roll in degrees: positive to the picture's right, up, clockwise."""
    return [_pose(np.asarray(points, np.float64)) for points in landmarks]


def _pose(points: npt.NDArray[np.float64]) -> Pose:
    points = points - points.mean(axis=0)
    # The rotation nearest to the affine map from head to points, then Gauss-Newton steps of rotation and scale.
    left, sizes, right = np.linalg.svd((_FROM_POINTS @ points).T, full_matrices=False)
    first, second = left @ right
    turn = np.array([first, second, np.cross(first, second)])
    scale = float(sizes.mean())
    slopes = np.zeros((5, 2, 4))
    for _ in range(_STEPS):
        x, y, z = (_POINTS @ turn.T).T
        slopes[:, 0, 1], slopes[:, 0, 2], slopes[:, 0, 3] = scale * z, -scale * y, x
        slopes[:, 1, 0], slopes[:, 1, 2], slopes[:, 1, 3] = -scale * z, scale * x, y
        off = (points - scale * np.stack([x, y], axis=1)).ravel()
        jacobian = slopes.reshape(10, 4)
        step = np.linalg.solve(jacobian.T @ jacobian + 1e-9 * np.eye(4), jacobian.T @ off)
        turn = cv2.Rodrigues(step[:3])[0] @ turn
        scale += float(step[3])
    return _angles(turn)


def rotation(yaw: float, pitch: float, roll: float) -> npt.NDArray[np.float64]:
    """The rotation (3, 3) of a head with these angles in degrees; zeros look into the camera."""
    a, b, c = np.deg2rad([-pitch, -yaw, roll])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(about_x @ about_y @ about_z, np.float64)


def _angles(turn: npt.NDArray[np.float64]) -> Pose:
    """The angles of a rotation (3, 3)."""
    yaw = -math.asin(min(max(turn[0, 2], -1.0), 1.0))
    pitch = math.atan2(turn[1, 2], turn[2, 2])
    roll = math.atan2(-turn[0, 1], turn[0, 0])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)
