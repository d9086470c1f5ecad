"""Clips synthesised from stills, to train temporal members without labelled video.

A clip shows one face with slow drift and rotation, the jitter of a tracker's crops, and slowly changing light.  It may
cut or cross-fade to a face with another label.  Runs of frames may be degraded: motion blur, noise, compression,
occlusion, wrong exposure, wrong crop, or low resolution.  So context helps for degraded frames, and the label still
changes with the face.  The jaw may move as in speech, which changes no label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from worker.crops import Image
from worker.training.recipes import ClipSettings

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Damage = Callable[[Floats, np.random.Generator], Floats]
DAMAGE_RUN = 3  # frames, the mean length of a degraded run
FRAMES_PER_S = 30.0
SYLLABLES_PER_S = (2.5, 6.0)
MOUTH_ROW, MOUTH_WIDTH = 0.766, 0.13  # of the side, in a crop that is cut as FER+'s are
JAW_DROP = 0.09  # of the side, at most
INSIDE = 0.45  # how bright an open mouth is, in comparison with the lips
SHARP_PX = 48  # the side that `softness` is meant for


@dataclass(frozen=True)
class Plan:
    """The plan of a clip.

    stills: (2,) the first and the last still, equal without a change.  share: (T,) share of the last one in each frame,
    0..1.  damaged: (T,) bool, degraded frames.
    """

    stills: Indices
    share: Floats
    damaged: npt.NDArray[np.bool_]


def plan_clip(first: int, labels: Indices, settings: ClipSettings, rng: np.random.Generator) -> Plan:
    """Plan a clip that starts with still `first`.  labels: (N,) of the stills; a change goes to another label."""
    frames = settings.frames
    last, share = first, np.zeros(frames, np.float32)
    others = np.flatnonzero(labels != labels[first])
    if rng.random() < settings.change and len(others):
        last = int(rng.choice(others))
        middle = rng.uniform(1.5, frames - 1.5)
        fade = rng.integers(1, settings.fade_frames + 1)
        share = np.clip((np.arange(frames) - middle) / fade + 0.5, 0, 1).astype(np.float32)
        if fade == 1:
            share = share.round()
    return Plan(np.array([first, last]), share, _damaged_stretches(settings, rng))


def render_clip(stills: Image, plan: Plan, settings: ClipSettings, rng: np.random.Generator) -> Image:
    """Draw a planned clip.  stills: (N, H, W) uint8.  Returns (T, H, W) uint8."""
    first, last = stills[plan.stills[0]].astype(np.float32), stills[plan.stills[1]].astype(np.float32)
    flip = rng.random() < 0.5
    paths = {name: _drift(settings.frames, rng) for name in ("turn", "x", "y", "zoom", "light")}
    jitter = rng.normal(0, settings.jitter, (settings.frames, 2))
    gamma, grain = rng.uniform(0.75, 1.3), rng.uniform(0, 0.025) * 255 * (rng.random() < 0.7)
    softness = rng.uniform(0.3, 1.0) if rng.random() < 0.4 else 0.0
    damage = DAMAGES[rng.integers(len(DAMAGES))]
    drops = spoken_drops(settings.frames, rng) if settings.speech and rng.random() < settings.speech else None
    frames = np.empty((settings.frames, *first.shape), np.uint8)
    for t in range(settings.frames):
        share = float(plan.share[t])
        image = first if share == 0 else last if share == 1 else (1 - share) * first + share * last
        if drops is not None:
            image = jaw_dropped(image, float(drops[t]))
        shift = np.array([paths["x"][t], paths["y"][t]]) * settings.shift + jitter[t]
        zoom = float(np.exp(settings.zoom * paths["zoom"][t]))
        image = _moved(image, settings.turn * paths["turn"][t], zoom, shift, flip)
        image = 255 * np.power(image / 255, gamma) + 25 * paths["light"][t]
        if softness:
            image = cv2.GaussianBlur(image, (0, 0), softness * len(image) / SHARP_PX)
        if plan.damaged[t]:
            damage = DAMAGES[rng.integers(len(DAMAGES))] if rng.random() < 0.3 else damage
            image = damage(image, rng)
        image = image + rng.normal(0, 1, image.shape) * grain if grain else image
        frames[t] = np.clip(image, 0, 255).astype(np.uint8)
    return frames


def targets_of(plan: Plan, shares: Floats) -> Floats:
    """(T, K) target of every frame: the stills' targets (N, K), mixed like their pictures."""
    mixed = plan.share[:, None]
    return np.asarray((1 - mixed) * shares[plan.stills[0]] + mixed * shares[plan.stills[1]], np.float32)


def truth_of(plan: Plan, labels: Indices) -> Indices:
    """(T,) label of the still that each frame mostly shows; labels (N,)."""
    return np.asarray(np.where(plan.share > 0.5, labels[plan.stills[1]], labels[plan.stills[0]]), np.int64)


def spoken_drops(frames: int, rng: np.random.Generator) -> Floats:
    """(T,) how far the jaw drops, as a fraction of the side: syllables of changing loudness, and pauses."""
    seconds = np.arange(frames) / FRAMES_PER_S
    pace, loudness = rng.uniform(*SYLLABLES_PER_S), rng.uniform(0.3, 1.0)
    wave = np.sin(2 * np.pi * (pace * seconds + rng.random()))
    phrase = np.sin(2 * np.pi * (rng.uniform(0.3, 1.2) * seconds + rng.random()))
    return np.asarray(JAW_DROP * loudness * np.clip(wave, 0, 1) * np.clip(0.6 + phrase, 0, 1), np.float32)


def jaw_dropped(image: Floats, drop: float) -> Floats:
    """The lower face moved down by `drop` of the side, the gap at the mouth dark."""
    side = len(image)
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    across = np.exp(-(((x - 0.5) / (2 * MOUTH_WIDTH)) ** 2))
    below = np.clip((y - MOUTH_ROW) / max(drop, 1e-3), 0, 1)
    source = np.maximum(y - drop * across * below, np.minimum(y, MOUTH_ROW)).astype(np.float32)
    moved = cv2.remap(image, (x * side), source * side, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    depth = np.clip(1 - np.abs(y - MOUTH_ROW - drop / 2) / max(drop / 2, 1e-3), 0, 1)
    gap = depth * np.exp(-(((x - 0.5) / MOUTH_WIDTH) ** 4)) * min(drop * side / 2, 1)
    return np.asarray(moved * (1 - (1 - INSIDE) * gap), np.float32)


def _damaged_stretches(settings: ClipSettings, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    damaged = np.zeros(settings.frames, bool)
    if rng.random() >= settings.damaged:
        return damaged
    left = round(settings.damage_rate * settings.frames)
    while left > 0:
        start, length = int(rng.integers(settings.frames)), int(rng.integers(1, 2 * DAMAGE_RUN))
        stretch = damaged[start : start + min(length, left)]
        left -= int((~stretch).sum())
        stretch[:] = True
    return damaged


def _drift(frames: int, rng: np.random.Generator) -> Floats:
    """(T,) a slow smooth path within -1..1."""
    t = np.linspace(0, 1, frames)
    waves = [rng.uniform(0, 0.5) * np.sin(2 * np.pi * (rng.uniform(0, f) * t + rng.random())) for f in (1.0, 2.5)]
    return np.asarray(np.sum(waves, axis=0), np.float32)


def _moved(image: Floats, degrees: float, zoom: float, shift: npt.NDArray[np.floating], flip: bool) -> Floats:
    height, width = image.shape
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, degrees, zoom)
    matrix[:, 2] += shift * width
    image = image[:, ::-1] if flip else image
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.float32)


def _motion_blur(image: Floats, rng: np.random.Generator) -> Floats:
    length = int(rng.integers(len(image) // 6, len(image) // 2))
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    middle = np.array([length, length]) / 2
    ends = [tuple(int(v) for v in middle + side * reach) for side in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return np.asarray(cv2.filter2D(image, -1, kernel / max(float(kernel.sum()), 1.0)), np.float32)


def _noise(image: Floats, rng: np.random.Generator) -> Floats:
    return np.asarray(image + rng.normal(0, rng.uniform(25, 70), image.shape), np.float32)


def _compression(image: Floats, rng: np.random.Generator) -> Floats:
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(1, 12))])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.float32)


def _occlusion(image: Floats, rng: np.random.Generator) -> Floats:
    height, width = image.shape
    h, w = (rng.uniform(0.35, 0.85, 2) * [height, width]).astype(int)
    y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    covered = image.copy()
    covered[y : y + h, x : x + w] = rng.uniform(0, 255) + rng.normal(0, rng.uniform(0, 20), (h, w))
    return covered


def _exposure(image: Floats, rng: np.random.Generator) -> Floats:
    if rng.random() < 0.5:
        return np.asarray(image * rng.uniform(0.05, 0.3), np.float32)
    return np.asarray(255 - (255 - image) * rng.uniform(0.05, 0.3), np.float32)


def _wrong_crop(image: Floats, rng: np.random.Generator) -> Floats:
    shift = rng.uniform(0.2, 0.45, 2) * rng.choice([-1, 1], 2)
    return _moved(image, rng.uniform(-40, 40), rng.uniform(0.6, 1.7), shift, flip=False)


def _tiny(image: Floats, rng: np.random.Generator) -> Floats:
    height, width = image.shape
    side = int(rng.integers(4, 10))
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


DAMAGES: tuple[Damage, ...] = (_motion_blur, _noise, _compression, _occlusion, _exposure, _wrong_crop, _tiny)
