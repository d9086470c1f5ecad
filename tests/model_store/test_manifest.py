"""Manifests: what does not fit together is refused when it is read, not when it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from model_store.manifest import Manifest

Fields = dict[str, Any]


def test_a_valid_manifest_survives_its_json(manifest_fields: Fields) -> None:
    """A written manifest is read back unchanged; the window's centre is its middle."""
    manifest = Manifest.model_validate(manifest_fields)
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert manifest.centre == 4
    assert manifest.input.channels == 1


def test_eight_labels_and_colour_are_data(manifest_fields: Fields) -> None:
    """Labels, size and colour are the manifest's to choose."""
    manifest_fields["labels"] = [f"label {k}" for k in range(8)]
    manifest_fields["input"].update(size=224, colour="rgb", mean=[0.5] * 3, std=[0.2] * 3)
    manifest = Manifest.model_validate(manifest_fields)
    assert (len(manifest.labels), manifest.input.channels) == (8, 3)


def two_backbones(fields: Fields) -> None:
    fields["members"][1]["backbone"] = {"architecture": "compact_resnet", "stem": 8, "widths": [8], "blocks": [1]}


def no_weights(fields: Fields) -> None:
    for member in fields["members"]:
        member["fusion_weight"] = 0


def prior(shares: Sequence[float] = (0.5, 0.3, 0.2), **others: float) -> Callable[[Fields], object]:
    return lambda fields: fields.update(prior={"shares": shares, "trained": 1, "default": 1} | others)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(window=8), "window must be odd"),
        (lambda f: f.update(window=0), "window"),
        (lambda f: f.update(labels=["same", "same"]), "labels must differ"),
        (lambda f: f.update(labels=["one"]), "labels"),
        (lambda f: f.update(unknown=1), "unknown"),
        (lambda f: f.update(name="../elsewhere"), "name"),
        (lambda f: f.update(members=[]), "members"),
        (lambda f: f.update(members=f["members"][:1] * 2), "members must differ"),
        (lambda f: f["input"].update(mean=[0.5] * 3), "one value a channel"),
        (lambda f: f["input"]["alignment"].update(landmarks=[[0, 0]] * 4), "landmarks"),
        (lambda f: f["members"][0].update(head=f["members"][1]["head"]), "needs a frame head"),
        (lambda f: f["members"][0].update(fusion_weight=-1), "fusion_weight"),
        (lambda f: f["members"][0].update(temperature=0), "temperature"),
        (lambda f: f["members"][0]["head_weights"].update(file="../cnn.safetensors"), "file"),
        (lambda f: f["members"][0]["head_weights"].update(file="cnn.pth"), "file"),
        (lambda f: f["members"][0]["head_weights"].update(sha256="short"), "sha256"),
        (two_backbones, "two different backbone architectures"),
        (no_weights, "must not all be zero"),
        (prior([0.5, 0.5]), "one share a label, 3, got 2"),
        (prior([0.5, 0.4, 0.2]), "must sum to 1, got 1.1"),
        (prior([0.6, 0.4, 0]), "greater than 0"),
        (prior(default=1.5), "default"),
        (prior(trained=-1), "trained"),
    ],
)
def test_what_does_not_fit_is_refused(
    manifest_fields: Fields, change: Callable[[Fields], object], message: str
) -> None:
    """Each single contradiction makes the manifest invalid, and the message names it."""
    Manifest.model_validate(manifest_fields)
    change(manifest_fields)
    with pytest.raises(ValidationError, match=message):
        Manifest.model_validate(manifest_fields)
