"""The fusion at a prior: the members' mean, from which the labels' frequencies are divided out as far as is asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from tests.worker.ensemble.steps import clip, torch_engine
from worker.core.records import CroppedFace, CroppedFrame
from worker.ensemble.engine import Engine
from worker.ensemble.fusion import Floats, NoPriorError, Prior, fuse, fuse_at, prior_in_use
from worker.ensemble.networks import Ensemble
from worker.ensemble.stream import ClipStream

SHARES = (0.4, 0.3, 0.05, 0.2, 0.05)
PRIOR = Prior(SHARES, trained=0.75, default=0.25)


def members() -> Floats:
    """(3, 20, 5) probabilities of three members."""
    return np.random.default_rng(3).dirichlet(np.ones(5), (3, 20)).astype(np.float32)


@pytest.mark.parametrize("wanted", [0.0, 0.5, 1.0, None])
def test_shares_are_divided_out_of_the_fused_scores_and_of_the_members(wanted: float | None) -> None:
    """Proportional to fused * shares ** (P - T), scaled to sum 1 a face; without a wish P is the default."""
    given, weights = members(), np.array([1.0, 2.0, 0.5], np.float32)
    fused, own = fuse_at(given, weights, PRIOR, wanted)
    factors = np.array(SHARES) ** ((0.25 if wanted is None else wanted) - 0.75)
    for found, plain in ((fused, fuse(given, weights)), (own, given)):
        expected = plain * factors
        np.testing.assert_allclose(found, expected / expected.sum(axis=-1, keepdims=True), rtol=1e-5)
        assert found.dtype == np.float32


def test_the_prior_of_training_changes_no_bit() -> None:
    """What the scores hold already is given as it is."""
    given, weights = members(), np.ones(3, np.float32)
    fused, own = fuse_at(given, weights, PRIOR, 0.75)
    np.testing.assert_array_equal(fused, fuse(given, weights))
    np.testing.assert_array_equal(own, given)


def test_a_certain_face_stays_certain() -> None:
    """Zeros stay zeros: nothing is divided by nothing, however rare a label was."""
    prior = Prior((0.999998, 1e-6, 1e-6), 1.0, 1.0)
    found = prior.shifted(np.eye(3, dtype=np.float32), 0.0)
    np.testing.assert_allclose(found, np.eye(3))


def test_a_bundle_without_a_prior_takes_no_wish() -> None:
    """Without a request the scores are unchanged; otherwise an error is raised."""
    given, weights = members(), np.ones(3, np.float32)
    np.testing.assert_array_equal(fuse_at(given, weights, None, None)[0], fuse(given, weights))
    assert prior_in_use(None, None) is None
    with pytest.raises(NoPriorError, match="does not tell how frequent its labels were"):
        fuse_at(given, weights, None, 1.0)


@pytest.fixture
def balanced(ensemble: Ensemble) -> Iterator[Engine]:
    """The engine of the ensemble with a prior."""
    engine = torch_engine(dataclasses.replace(ensemble, prior=PRIOR))
    yield engine
    engine.close()


def test_a_clips_scores_are_at_the_prior_that_it_asks_for(balanced: Engine, engine: Engine) -> None:
    """Through the engine: all of a clip's faces, the fused scores and the members'."""
    frames = [
        CroppedFrame(i, i / 25, (CroppedFace(0, (0, 0, 9, 9), None, crop),), ()) for i, crop in enumerate(clip(0, 40))
    ]
    plain = list(ClipStream(engine, engine.member_names).run(frames))
    moved = list(ClipStream(balanced, engine.member_names, 0.0).run(frames))
    factors = np.array(SHARES) ** -0.75
    for before, after in zip(plain, moved, strict=True):
        for scores, found in ((before.fused, after.fused), (before.members, after.members)):
            expected = scores * factors
            np.testing.assert_allclose(found, expected / expected.sum(axis=-1, keepdims=True), rtol=1e-4)
