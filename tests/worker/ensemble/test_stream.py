"""Clips through the engine: each face gets what the plain ensemble gives its window, however steps are cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch

from tests.worker.ensemble.steps import torch_engine
from worker.core.records import CroppedFace, CroppedFrame, LabelledFrame
from worker.ensemble.engine import Engine, Step
from worker.ensemble.networks import Ensemble
from worker.ensemble.stream import FIRST_FRAMES, STEPS_IN_FLIGHT, ClipStream
from worker.ensemble.torch_runtime import STEP_FRAMES

SHAPE = (16, 16, 1)
TOLERANCE = 1e-5
MakeEnsemble = Callable[[int], Ensemble]


def random_clip(seed: int, frames: int, at_once: int = 3, ends: float = 0.1, gaps: float = 0.15) -> list[CroppedFrame]:
    """Tracks that come, pause and end at random; some end before they are a window long."""
    rng = np.random.default_rng(seed)
    active: set[int] = set()
    newest = 0
    clip = []
    for i in range(frames):
        ended = tuple(track for track in sorted(active) if rng.random() < ends)
        active -= set(ended)
        while len(active) < at_once and rng.random() < 0.4:
            active.add(newest)
            newest += 1
        faces = [
            CroppedFace(track, (0, 0, 1, 1), 0.9, rng.integers(0, 256, SHAPE, np.uint8))
            for track in rng.permutation(sorted(active)).tolist()
            if rng.random() >= gaps
        ]
        clip.append(CroppedFrame(i, i / 25, tuple(faces), ended))
    return clip


def check(ensemble: Ensemble, clip: Sequence[CroppedFrame], labelled: Sequence[LabelledFrame]) -> int:
    """Compare with the plain ensemble on every face's window, ends repeated -> how many faces there were."""
    assert [out.frame for out in labelled] == list(clip)
    tracks: dict[int, list[np.ndarray]] = defaultdict(list)
    for frame in clip:
        for face in frame.faces:
            tracks[face.track_id].append(face.crop)
    weights = np.array([member.weight for member in ensemble.members])
    half = ensemble.window // 2
    seen: dict[int, int] = defaultdict(int)
    for out in labelled:
        assert out.fused.shape == (len(out.frame.faces), len(ensemble.labels))
        assert out.members.shape == (len(ensemble.members), *out.fused.shape)
        for row, face in enumerate(out.frame.faces):
            crops, centre = tracks[face.track_id], seen[face.track_id]
            seen[face.track_id] += 1
            places = np.clip(np.arange(centre - half, centre + half + 1), 0, len(crops) - 1)
            plain = ensemble.window_probabilities(torch.from_numpy(np.stack([crops[place] for place in places])))
            expected = np.stack([plain[member.name].numpy() for member in ensemble.members])
            np.testing.assert_allclose(out.members[:, row], expected, atol=TOLERANCE)
            fused = (weights[:, None] * expected).sum(axis=0) / weights.sum()
            np.testing.assert_allclose(out.fused[row], fused, atol=TOLERANCE)
    return sum(map(len, tracks.values()))


@pytest.mark.parametrize("batch", [1, 2, 7, 32])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_tracks_equal_the_plain_windows(engine: Engine, ensemble: Ensemble, seed: int, batch: int) -> None:
    """Gaps, interleaved tracks and tracks shorter than a window: numbers are those of the definition."""
    engine.batch = batch
    clip = random_clip(seed, 70)
    assert check(ensemble, clip, list(ClipStream(engine, engine.member_names).run(clip))) > 50


@pytest.mark.parametrize("length", [1, 2, 4, 5, 8, 9, 10, STEP_FRAMES, STEP_FRAMES + 1])
def test_clips_of_any_length(engine: Engine, ensemble: Ensemble, length: int) -> None:
    """One face over a whole clip, shorter and longer than the window."""
    clip = random_clip(length, length, at_once=1, ends=0, gaps=0)
    check(ensemble, clip, list(ClipStream(engine, engine.member_names).run(clip)))


@pytest.mark.parametrize("window", [1, 3, 15])
def test_other_windows(make_ensemble: MakeEnsemble, window: int) -> None:
    """The window is the bundle's to choose."""
    ensemble = make_ensemble(window)
    engine = torch_engine(ensemble)
    engine.batch = 5
    clip = random_clip(3, 50)
    assert check(ensemble, clip, list(ClipStream(engine, engine.member_names).run(clip))) > 20
    engine.close()


def test_frames_without_faces_come_out(engine: Engine) -> None:
    """A clip without a face gives all its frames, and asks the engine for nothing."""
    clip = [CroppedFrame(i, i / 25, (), ()) for i in range(100)]
    labelled = list(ClipStream(engine, engine.member_names).run(clip))
    assert [out.frame for out in labelled] == clip
    assert engine.stats.batches == 0


def test_each_crop_is_encoded_once(engine: Engine) -> None:
    """Overlapping windows share the backbone's pass: as many crops go through it as there are faces."""
    clip = random_clip(5, 100)
    list(ClipStream(engine, engine.member_names).run(clip))
    assert engine.stats.crops == sum(len(frame.faces) for frame in clip)


def test_the_same_clip_gives_the_same_numbers(engine: Engine) -> None:
    """Steps are cut by counts alone, so a clip labelled twice is equal to the bit."""
    clip = random_clip(6, 80)
    first, second = (list(ClipStream(engine, engine.member_names).run(clip)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.members, b.members)
        np.testing.assert_array_equal(a.fused, b.fused)


def test_a_subset_of_members(engine: Engine) -> None:
    """Only the members asked for are answered and fused, with their weights scaled to sum 1."""
    clip = random_clip(7, 40)
    everyone = list(ClipStream(engine, engine.member_names).run(clip))
    some = list(ClipStream(engine, ("cnn", "cnn_transformer")).run(clip))
    for a, b in zip(everyone, some, strict=True):
        np.testing.assert_allclose(b.members, a.members[[0, 2]], atol=1e-6)
        np.testing.assert_allclose(b.fused, (a.members[0] * 1.0 + a.members[2] * 0.5) / 1.5, atol=1e-6)


def test_a_clip_s_first_step_is_short(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """First results appear soon; then steps have the length that is fastest."""
    sizes: list[int] = []
    submit = engine.submit

    def noted(step: Step) -> None:
        sizes.append(len(step.crops))
        submit(step)

    monkeypatch.setattr(engine, "submit", noted)
    face = CroppedFace(0, (0, 0, 1, 1), 0.9, np.zeros(SHAPE, np.uint8))
    clip = [CroppedFrame(i, i / 25, (face,), ()) for i in range(FIRST_FRAMES + 2 * STEP_FRAMES + 5)]
    list(ClipStream(engine, engine.member_names).run(clip))
    assert sizes == [FIRST_FRAMES, STEP_FRAMES, STEP_FRAMES, 5]


def test_results_appear_while_the_clip_goes_on(engine: Engine) -> None:
    """A reader of an endless clip gets its frames after a bounded number of others."""
    taken = 0

    def endless() -> Iterator[CroppedFrame]:
        nonlocal taken
        crop = np.zeros(SHAPE, np.uint8)
        while True:
            yield CroppedFrame(taken, taken / 25, (CroppedFace(0, (0, 0, 1, 1), 0.9, crop),), ())
            taken += 1

    out = ClipStream(engine, engine.member_names).run(endless())
    for i in range(200):
        assert next(out).frame.frame_index == i
        assert taken <= i + (STEPS_IN_FLIGHT + 2) * STEP_FRAMES
