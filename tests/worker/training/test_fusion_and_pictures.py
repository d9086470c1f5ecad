"""Fitting the fusion, measuring alignment, drawing reports."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from worker.training.alignment import measure_alignment, symmetric
from worker.training.fusion import fit_fusion, fused_probabilities, plain_fusion
from worker.training.metrics import calibration_error, measure
from worker.training.pictures import draw_report
from worker.training.recipes import FER_ALIGNMENT
from worker.training.stills import read_images

SHARED = Path(__file__).parents[3] / "../shared"


def overconfident_logits(rows: int, sharpness: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that would be calibrated if they were divided by `sharpness`, and labels drawn from them."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn((rows, 5), generator=rng) * 2
    truth = torch.multinomial(logits.softmax(dim=1), 1, generator=rng)[:, 0]
    return logits * sharpness, truth


def test_fusion_finds_the_temperature_of_an_overconfident_member() -> None:
    """Logits three times too sharp get temperature 3, and the result is calibrated."""
    logits, truth = overconfident_logits(6000, 3.0, 1)
    fusion = fit_fusion(logits[None], truth, torch.ones(len(truth)))
    assert fusion.temperatures[0] == pytest.approx(3.0, rel=0.1)
    fused = fused_probabilities(logits[None], torch.tensor(fusion.temperatures), torch.tensor(fusion.weights))
    assert calibration_error(fused.numpy(), truth.numpy()) < 0.03


def test_fusion_gives_little_weight_to_a_member_that_knows_nothing() -> None:
    """Noise beside a good member."""
    logits, truth = overconfident_logits(3000, 1.0, 2)
    noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(3))
    fusion = fit_fusion(torch.stack([logits, noise]), truth, torch.ones(len(truth)))
    assert fusion.weights[0] > 0.9
    assert sum(fusion.weights) == pytest.approx(1.0, abs=1e-3)


def test_balanced_members_are_calibrated_at_the_labels_shares() -> None:
    """Logits of equally frequent labels, judged where one label has most rows: the temperature is found."""
    shares = torch.tensor([0.6, 0.1, 0.1, 0.1, 0.1])
    rng = torch.Generator().manual_seed(8)
    logits = torch.randn((6000, 5), generator=rng) * 2
    natural = logits.softmax(dim=1) * shares
    truth = torch.multinomial(natural, 1, generator=rng)[:, 0]
    fusion = fit_fusion(2 * logits[None], truth, torch.ones(len(truth)), shares)
    assert fusion.temperatures[0] == pytest.approx(2.0, rel=0.1)
    assert fit_fusion(2 * logits[None], truth, torch.ones(len(truth))).temperatures[0] > 2.3


def test_given_weights_stay_and_temperatures_are_fitted() -> None:
    """The weights are the given ones to the last digit; an overconfident member still gets its temperature."""
    logits, truth = overconfident_logits(3000, 3.0, 6)
    fusion = fit_fusion(torch.stack([logits, logits]), truth, torch.ones(len(truth)), given=(0.25, 0.75))
    assert fusion.weights == (0.25, 0.75)
    assert fusion.temperatures[1] == pytest.approx(3.0, rel=0.15)


def test_plain_fusion_is_the_plain_mean() -> None:
    """The published fusion: the mean of the members' softmaxes."""
    logits = torch.randn((3, 4, 7), generator=torch.Generator().manual_seed(4))
    fusion = plain_fusion([1.0, 1.0, 1.0])
    fused = fused_probabilities(logits, torch.tensor(fusion.temperatures), torch.tensor(fusion.weights))
    torch.testing.assert_close(fused, logits.softmax(dim=-1).mean(dim=0))


def test_a_report_is_drawn_as_png(tmp_path: Path) -> None:
    """Two readable pictures an annotation."""
    rng = np.random.default_rng(0)
    metrics = measure(rng.dirichlet(np.ones(3), 40), rng.integers(0, 3, 40), ("a", "b", "c"))
    report = {"data": "x", "results": {"annotations": {"n": 40, "ensemble": metrics, "members": {}}}}
    paths = draw_report(report, ("a", "b", "c"), tmp_path / "new")
    assert [path.name for path in paths] == ["annotations-confusion.png", "annotations-classes.png"]
    for path in paths:
        picture = cv2.imread(str(path))
        assert picture is not None
        assert picture.std() > 5


def test_a_symmetric_template_stays_and_a_crooked_one_is_evened_out() -> None:
    """The mean of the template and its mirror image."""
    template = np.array(FER_ALIGNMENT.landmarks)
    assert symmetric(template) == pytest.approx(template)
    crooked = template + np.array([[0.02, 0.0]])
    assert symmetric(crooked) == pytest.approx(template)


def test_measured_alignment_is_that_of_the_recipe() -> None:
    """The template in the recipe is what the committed command measures on the training faces."""
    data, model = SHARED / "data/ferplus_valid.npz", SHARED / "models/face_detection_yunet_2023mar.onnx"
    if not data.is_file() or not model.is_file():
        pytest.skip("needs the FER+ faces and YuNet's model, which are not part of the repository")
    found, counts = measure_alignment(read_images(data)[::40], model)
    assert counts["yunet"] > 0.8 * counts["images"]
    assert np.array(found.landmarks) == pytest.approx(np.array(FER_ALIGNMENT.landmarks), abs=0.02)
    assert found.box_scale == pytest.approx(FER_ALIGNMENT.box_scale, abs=0.06)
