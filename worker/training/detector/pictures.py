"""How pictures look: tinted grey faces, soft masks, and the light, blur, noise and compression of whole scenes."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from worker.core.records import Image
from worker.training.detector.settings import SceneSettings

Rng = np.random.Generator

TONES = np.arange(256, dtype=np.float32) / 255
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def tinted(grey: Image, rng: Rng, share: float) -> Image:
    """A grey picture (h, w) in the colours of skin in some light, or in grey: (h, w, 3)."""
    curve = np.clip(TONES ** np.exp(rng.uniform(-0.35, 0.35)) * rng.uniform(0.7, 1.15) + rng.uniform(-0.1, 0.12), 0, 1)
    tint = np.ones(3, np.float32)
    if rng.random() < share:
        green = rng.uniform(0.72, 0.95)
        tint = np.array([1.0, green, green * rng.uniform(0.7, 1.02)], np.float32)
        tint *= rng.uniform(0.94, 1.06, 3).astype(np.float32)
        tint /= float(tint @ LUMA)
    # Bright tones stay whiter than dark ones, as light on skin does.
    strength = 1 - 0.5 * curve**2
    tables = np.clip(curve[:, None] * (1 + (tint - 1) * strength[:, None]) * 255, 0, 255).astype(np.uint8)  # (256, 3)
    return np.asarray(tables[grey])


def soft_mask(shape: tuple[int, int], face: npt.NDArray[np.float32], rng: Rng, *, whole: bool) -> Image:
    """(h, w) uint8: the whole picture with soft borders, or an ellipse around the face."""
    height, width = shape
    ys, xs = np.arange(height, dtype=np.float32) + 0.5, np.arange(width, dtype=np.float32) + 0.5
    feather = rng.uniform(0.5, 12) if whole else rng.uniform(3, 9)
    border_y = np.clip(np.minimum(ys, height - ys) / feather, 0, 1)
    border_x = np.clip(np.minimum(xs, width - xs) / feather, 0, 1)
    mask = border_y[:, None] * border_x[None, :]
    if not whole:
        half_w, half_h = (face[2:4] - face[:2]) / 2 * rng.uniform(0.98, 1.3, 2)
        x, y = (face[:2] + face[2:4]) / 2
        away = np.sqrt(((xs - x) / half_w)[None, :] ** 2 + ((ys - y) / half_h)[:, None] ** 2)
        soft = rng.uniform(0.04, 0.25)
        mask = np.minimum(mask, np.clip((1 - away) / soft + 0.5, 0, 1))
    return np.asarray(mask * 255, np.uint8)


def random_colour(rng: Rng) -> tuple[int, int, int]:
    """Any colour, dull ones more often."""
    level, spread = rng.uniform(10, 240), rng.uniform(0, 60)
    red, green, blue = np.clip(level + rng.uniform(-spread, spread, 3), 0, 255).astype(int).tolist()
    return red, green, blue


def photographed(scene: Image, rng: Rng, how: SceneSettings) -> tuple[Image, float]:
    """The scene as a camera would have it: light, colour, softness, noise, compression.

    Also how many times larger than in a sharp picture something must be to be seen, at least 1.
    """
    scene = _light(scene, rng, how)
    softness = 1.0
    if rng.random() < how.softened:
        scene, softness = _softened(scene, rng)
    if rng.random() < how.noisy:
        noise = rng.integers(-128, 128, scene.shape[:2] if rng.random() < 0.5 else scene.shape, dtype=np.int16)
        noise = noise if noise.ndim == scene.ndim else np.repeat(noise[..., None], 3, axis=2)
        scene = np.clip(scene + noise // int(rng.integers(8, 60)), 0, 255).astype(np.uint8)
    if rng.random() < how.jpeg:
        quality = int(rng.integers(20, 90))
        data = cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        scene = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return scene, softness


def _light(scene: Image, rng: Rng, how: SceneSettings) -> Image:
    if rng.random() < how.grey:
        scene = np.asarray(cv2.cvtColor(cv2.cvtColor(scene, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)
        colour = np.ones(3, np.float32)
    else:
        colour = rng.uniform(0.85, 1.15, 3).astype(np.float32)
    wide = rng.random() < 0.3
    gamma = np.exp(rng.uniform(-0.7, 0.7) if wide else rng.uniform(-0.25, 0.25))
    contrast = rng.uniform(0.35, 1.25) if wide else rng.uniform(0.8, 1.2)
    level = rng.uniform(-0.3, 0.3) if wide else rng.uniform(-0.1, 0.1)
    curve = (TONES**gamma - 0.5) * contrast + 0.5 + level
    table = np.clip(curve[:, None] * colour * 255, 0, 255).astype(np.uint8)  # (256, 3)
    return np.asarray(cv2.LUT(scene, table[None]), np.uint8)


def _softened(scene: Image, rng: Rng) -> tuple[Image, float]:
    height, width = scene.shape[:2]
    kind = rng.integers(3)
    if kind == 0:
        spread = rng.uniform(0.4, 1.8)
        return np.asarray(cv2.GaussianBlur(scene, (0, 0), spread), np.uint8), max(1.5 * spread, 1.0)
    if kind == 1:  # movement
        length = int(rng.integers(3, 10))
        kernel = np.zeros((length, length), np.float32)
        turn = rng.uniform(0, np.pi)
        reach = np.array([np.cos(turn), np.sin(turn)]) * length / 2
        middle = np.full(2, (length - 1) / 2)
        start, end = np.rint(middle - reach).astype(int), np.rint(middle + reach).astype(int)
        cv2.line(kernel, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), 1.0)
        moved = cv2.filter2D(scene, -1, kernel / max(float(kernel.sum()), 1.0))
        return np.asarray(moved, np.uint8), max(length / 3, 1.0)
    share = rng.uniform(0.4, 0.9)  # a small picture scaled up
    small = cv2.resize(scene, (max(int(width * share), 8), max(int(height * share), 8)), interpolation=cv2.INTER_AREA)
    how = cv2.INTER_LINEAR if rng.random() < 0.7 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(small, (width, height), interpolation=how), np.uint8), 1 / share
