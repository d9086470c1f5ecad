"""The card of the bundle that ships."""

from __future__ import annotations

from model_store.bundle import find_bundle, load_bundle
from worker.training.card import model_card


def test_the_card_is_that_of_the_manifest() -> None:
    """Written by hand, it would contain figures and notes that `GET /v1/models` lacks."""
    folder = find_bundle("default")
    assert (folder / "README.md").read_text() == model_card(load_bundle(folder).manifest)
