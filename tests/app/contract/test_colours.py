"""The labels' colours are distinguishable, also with colour blindness."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from app.contract.colours import LABEL_COLOURS, SPARE_COLOURS, colours, rgb

# How colours look without one kind of cones, in linear RGB (Machado, Oliveira, Fernandes 2009, severity 1).
SIGHT = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
LEAST = 14  # CIEDE2000; 2 is just visible side by side
OKABE_ITO = ["#999999", "#D55E00", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#56B4E9"]

Colours = npt.NDArray[np.float64]


def seen(shown: list[str], sight: str) -> Colours:
    """Colours (N,) as `#RRGGBB` -> how they are seen, (N, 3) in CIE Lab."""
    encoded = np.array([rgb(colour) for colour in shown]) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    there = np.clip(linear @ np.asarray(SIGHT[sight]).T, 0, 1)
    again = np.where(there <= 0.0031308, there * 12.92, 1.055 * there ** (1 / 2.4) - 0.055)
    lab: Colours = rgb2lab(again[None])[0]
    return lab


def least_difference(shown: list[str], sight: str) -> float:
    one, other = np.transpose(list(combinations(seen(shown, sight), 2)), (1, 0, 2))
    return float(deltaE_ciede2000(one, other).min())  # type: ignore[no-untyped-call]  # it has no annotations


@pytest.mark.parametrize("sight", SIGHT)
def test_labels_can_be_told_apart(sight: str) -> None:
    """Any two labels differ clearly, whichever cones the viewer has."""
    assert least_difference(list(LABEL_COLOURS.values()), sight) >= LEAST


def test_measure_finds_colours_that_cannot_be_told_apart() -> None:
    """The grey and the purple of a well-known palette are nearly one colour without green-sensitive cones."""
    assert least_difference(OKABE_ITO, "normal") > LEAST
    assert least_difference(OKABE_ITO, "deuteranopia") < LEAST


def test_other_labels_have_colours_of_their_own() -> None:
    """The basic labels keep theirs, others take what is free; labels beyond the palette share the first spare."""
    shown = colours(["A", "B", "Neutral", "C"])
    assert shown["Neutral"] == LABEL_COLOURS["Neutral"]
    assert len(set(shown.values())) == 4
    many = colours([str(index) for index in range(20)])
    assert set(many.values()) == set(SPARE_COLOURS)
