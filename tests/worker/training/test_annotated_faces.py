"""Faces with what several annotators said of them: portraits beside stills, and a classifier for each annotation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.worker.training.portrait_files import write_portraits
from worker.crops import CropSpec
from worker.training.annotated_faces import AnnotatedFaces, gather
from worker.training.errors import DataError, RecipeError
from worker.training.journal import Journal
from worker.training.portraits import read_portraits
from worker.training.recipes import FER_ALIGNMENT, StillsSettings, recipe
from worker.training.static import PixelBatch, StaticNet, frozen, log_shares, static_loss, static_probabilities
from worker.training.stills import Stills

CROP = CropSpec(24, "grey", np.asarray(FER_ALIGNMENT.landmarks, np.float32))
QUIET = Journal(None, shown=False)


def stills() -> Stills:
    """Two stills: eight votes for Happiness and older label Anger; all votes for Neutral and no older label."""
    votes = np.zeros((2, 10), np.int64)
    votes[0, 1], votes[0, 4], votes[1, 0] = 8, 2, 10
    images = np.random.default_rng(1).integers(0, 256, (2, 48, 48), np.uint8)
    return Stills(images, votes, np.array([1, -1]))


def test_three_of_ten_portraits_are_kept_apart(tmp_path: Path) -> None:
    """None is in both parts, none is lost, and each crop has the landmarks where the template wants them."""
    write_portraits(tmp_path, [0, 1, 4, 6, -1, 3, 2, 5, 0, 4, 1, 0])
    train, held = (read_portraits(tmp_path, kept_apart=kept) for kept in (False, True))
    assert held.labels.tolist() == [0, 1, 4, 1, 0]
    assert train.labels.tolist() == [6, -1, 3, 2, 5, 0, 4]
    crops = held.crops(CROP)
    assert crops.shape == (5, 24, 24, 1)
    right_eye = (CROP.landmarks[0] * 24).astype(int)
    for crop in crops:  # the generated portraits have one bright spot, at the right eye
        y, x = np.unravel_index(crop[..., 0].argmax(), (24, 24))
        assert abs(x - right_eye[0]) <= 1
        assert abs(y - right_eye[1]) <= 1


def test_portraits_that_are_not_there_are_named(tmp_path: Path) -> None:
    """A missing file, files that do not belong together, a label that does not exist, a damaged picture."""
    with pytest.raises(DataError, match=r"stills\.portraits=0"):
        read_portraits(tmp_path, kept_apart=False)
    write_portraits(tmp_path, [0, 1, 4, 6])
    np.save(tmp_path / "portrait_expressions.npy", np.zeros(3, np.int8))
    with pytest.raises(DataError, match="do not belong together: 4 faces, 3 labels"):
        read_portraits(tmp_path, kept_apart=False)
    np.save(tmp_path / "portrait_expressions.npy", np.full(4, 7, np.int8))
    with pytest.raises(DataError, match=r"must lie in -1\.\.6"):
        read_portraits(tmp_path, kept_apart=False)
    write_portraits(tmp_path, [0, 1, 4, 6], damaged=3)
    with pytest.raises(DataError, match="image 0 of the portraits cannot be decoded"):
        read_portraits(tmp_path, kept_apart=False).crops(CROP)


def test_annotators_are_heard_on_what_they_saw(tmp_path: Path) -> None:
    """Votes and older labels are of stills, portraits' labels of portraits; a face that nobody labelled is left out."""
    write_portraits(tmp_path, [0, 0, 0, 5, -1])
    settings = StillsSettings(votes=0.6, fer2013=0.3, portraits=0.1)
    faces = gather(stills(), tmp_path, None, tmp_path / "run", CROP, settings, QUIET)
    assert faces.sharp.tolist() == [False, False, True]
    assert faces.crops.shape == (3, 24, 24, 1)
    happy, angry, neutral, sad = torch.eye(7)[[4, 1, 0, 5]]
    nothing = torch.zeros(7)
    assert torch.allclose(faces.targets["votes"], torch.stack([0.8 * happy + 0.2 * angry, neutral, nothing]))
    assert torch.equal(faces.targets["fer2013"], torch.stack([angry, nothing, nothing]))
    assert torch.equal(faces.targets["portraits"], torch.stack([nothing, nothing, sad]))
    mixed = (0.6 * (0.8 * happy + 0.2 * angry) + 0.3 * angry) / 0.9
    assert torch.allclose(faces.together(), torch.stack([mixed, neutral, sad]))
    assert torch.allclose(
        faces.shares("votes", torch.tensor([3.0, 1.0, 9.0])), (2.4 * happy + 0.6 * angry + neutral) / 4
    )
    part = faces.chosen(torch.tensor([2, 0]))
    assert isinstance(part, AnnotatedFaces)
    assert part.sharp.tolist() == [True, False]
    assert torch.equal(part.targets["fer2013"], torch.stack([nothing, angry]))


def test_what_is_served_is_the_weighted_mean_of_the_classifiers() -> None:
    """In logits, by the annotations' weights; shares of the labels move it from equal ones to those."""
    settings = recipe("compact", ["input.size=16", "backbone.stem=4", "backbone.widths=8", "backbone.blocks=1"])
    net = frozen(StaticNet(settings, 7, {"votes": 3.0, "fer2013": 1.0}))
    pixels = torch.randint(0, 256, (5, 16, 16, 1), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    logits = net(pixels)
    mean = 0.75 * logits["votes"] + 0.25 * logits["fer2013"]
    assert not torch.allclose(logits["votes"], logits["fer2013"])
    found = static_probabilities(net, [pixels], half_precision=False)
    torch.testing.assert_close(found, mean.softmax(dim=1))
    shares = torch.tensor([0.4, 0.1, 0.05, 0.05, 0.2, 0.1, 0.1])
    moved = static_probabilities(net, [pixels], half_precision=False, shares=shares)
    torch.testing.assert_close(moved, F.normalize(mean.softmax(dim=1) * shares, p=1, dim=1))


def test_balanced_logits_are_judged_at_the_shares_that_are_drawn() -> None:
    """The loss adds the drawn shares' logarithm, for each annotation its own; faces without an answer count nothing."""
    logits = {"votes": torch.randn(3, 7), "fer2013": torch.randn(3, 7)}
    targets = {"votes": torch.eye(7)[[0, 1, 2]], "fer2013": torch.cat([torch.eye(7)[[3]], torch.zeros(2, 7)])}
    drawn = {name: torch.full((7,), 1 / 7) for name in logits}
    drawn["fer2013"] = torch.tensor([0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0])

    class Fixed(torch.nn.Module):
        def forward(self, _: torch.Tensor) -> dict[str, torch.Tensor]:
            return logits

    batch = PixelBatch(torch.zeros(3), targets)
    shifted = logits["fer2013"][:1] + drawn["fer2013"].clamp(min=1e-4).log()
    wanted = F.cross_entropy(logits["votes"], torch.tensor([0, 1, 2])) + F.cross_entropy(shifted, torch.tensor([3]))
    torch.testing.assert_close(static_loss(Fixed(), batch, drawn), wanted)
    assert torch.isfinite(log_shares(drawn["fer2013"])).all()


def test_a_recipe_needs_votes_and_no_negative_weight() -> None:
    """Votes are what validation is measured by."""
    for override in ("stills.votes=0", "stills.teacher=-1"):
        with pytest.raises(RecipeError, match="weights of stills"):
            recipe("default", [override])
