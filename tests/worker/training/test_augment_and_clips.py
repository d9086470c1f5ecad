"""Augmentation of stills, and clips made from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from worker.training.augment import FLIP_ONLY, Augmentation, augment
from worker.training.clips import (
    DAMAGES,
    jaw_dropped,
    plan_clip,
    render_clip,
    spoken_drops,
    targets_of,
    truth_of,
)
from worker.training.recipes import ClipSettings

IMAGES = np.random.default_rng(0).integers(0, 256, (14, 48, 48), dtype=np.uint8)
LABELS = np.arange(14) % 7
SHARES = np.eye(7, dtype=np.float32)[LABELS]


def test_augmentation_keeps_shape_and_range_and_repeats_with_its_seed() -> None:
    """float32 in 0..255; the same seed gives the same pixels, another one others."""
    pixels = torch.from_numpy(IMAGES[..., None])
    first, again, other = (augment(pixels, Augmentation(), torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert first.shape == pixels.shape
    assert first.dtype == torch.float32
    assert first.min() >= 0
    assert first.max() <= 255
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_flip_alone_moves_whole_pixels() -> None:
    """Every image is itself or its mirror image, both occur, and no value is resampled."""
    pixels = torch.from_numpy(IMAGES[..., None])
    found = augment(pixels, FLIP_ONLY, torch.Generator().manual_seed(3))
    same = (found == pixels.float()).flatten(1).all(dim=1)
    mirrored = (found == pixels.flip(2).float()).flatten(1).all(dim=1)
    assert (same | mirrored).all()
    assert same.any()
    assert mirrored.any()


def test_a_changing_clip_goes_from_one_label_to_another() -> None:
    """Targets follow the shown stills, sum to 1, and the truth changes once."""
    settings = ClipSettings(change=1.0)
    for seed in range(20):
        plan = plan_clip(seed % 14, LABELS, settings, np.random.default_rng(seed))
        targets, truth = targets_of(plan, SHARES), truth_of(plan, LABELS)
        assert LABELS[plan.stills[0]] != LABELS[plan.stills[1]]
        assert targets.sum(axis=1) == pytest.approx(1.0)
        assert (truth[0], truth[-1]) == tuple(LABELS[plan.stills])
        assert (np.diff(truth) != 0).sum() == 1


def test_clips_repeat_with_their_seed_and_damage_what_they_plan() -> None:
    """Same seed, same frames; the wanted share of the frames is damaged, none where none is wanted."""
    settings = ClipSettings(frames=24, change=0.0, damaged=1.0, damage_rate=0.25)
    plans = [plan_clip(0, LABELS, settings, np.random.default_rng(seed)) for seed in range(100)]
    assert {int(plan.damaged.sum()) for plan in plans} == {6}
    frames = [render_clip(IMAGES, plans[0], settings, np.random.default_rng(5)) for _ in range(2)]
    assert np.array_equal(frames[0], frames[1])
    assert frames[0].shape == (24, 48, 48)
    whole = ClipSettings(damaged=0.0)
    assert not plan_clip(0, LABELS, whole, np.random.default_rng(1)).damaged.any()


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_changes_a_face_and_keeps_its_size(damage) -> None:  # type: ignore[no-untyped-def]
    """Same shape, other pixels."""
    image = IMAGES[0].astype(np.float32)
    found = damage(image, np.random.default_rng(2))
    assert found.shape == image.shape
    assert np.abs(found - image).mean() > 1


def test_a_dropped_jaw_moves_the_lower_face_alone() -> None:
    """Rows above the mouth stay, the chin goes down by the drop, the open mouth is dark; 0 changes nothing."""
    face = np.full((100, 100), 150, np.float32)
    face[20, 50] = face[90, 50] = 250
    assert np.allclose(jaw_dropped(face, 0.0), face)
    found = jaw_dropped(face, 0.08)
    assert np.allclose(found[:74], face[:74])
    assert abs(int(found[84:, 50].argmax()) + 84 - 98) <= 1
    assert found[76:85, 50].min() < 100
    assert np.allclose(found[76:85, 0], 150, atol=1)


def test_speech_opens_and_closes_the_mouth_several_times_a_second() -> None:
    """Drops lie in 0..0.09 of the side; over a second of most clips they rise and fall more than once."""
    openings = []
    for seed in range(50):
        drops = spoken_drops(30, np.random.default_rng(seed))
        assert 0 <= drops.min() <= drops.max() <= 0.09
        openings.append(int((np.diff((drops > 0.01).astype(int)) == 1).sum()))
    assert np.median(openings) >= 2


def test_clips_without_speech_are_the_ones_they_were() -> None:
    """Speech draws no random number where it is not wanted, so that measurements stay comparable."""
    settings = ClipSettings(frames=12, damaged=0.0)
    plan = plan_clip(3, LABELS, settings, np.random.default_rng(1))
    rngs = [np.random.default_rng(9) for _ in range(3)]
    render_clip(IMAGES, plan, settings, rngs[0])
    spoken = render_clip(IMAGES, plan, replace(settings, speech=1.0), rngs[1])
    silent = render_clip(IMAGES, plan, settings, rngs[2])
    assert rngs[0].random() == rngs[2].random() != rngs[1].random()
    assert not np.array_equal(spoken, silent)
