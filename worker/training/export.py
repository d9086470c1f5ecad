"""Write a trained ensemble as a bundle: tensors, manifest, model card."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from model_store.bundle import NewBundle, replace_manifest, write_manifest, write_tensors, write_whole
from model_store.manifest import (
    Input,
    Manifest,
    Measurement,
    Member,
    Prior,
    Provenance,
)
from worker.ensemble.backbones import Backbone, MobileNetV1Dense
from worker.ensemble.members import Head
from worker.inference.bundles import module_tensors
from worker.training.card import model_card
from worker.training.fusion import Fusion
from worker.training.recipes import ALIGNMENTS, InputSettings, Settings
from worker.training.static import PIXEL_SCALE, backbone_spec

INTENDED_USE = (
    "Labelling how faces look in video, frame by frame, for search, statistics and research. It reads appearance, not "
    "feelings. Not for decisions about people: not for hiring, policing, schooling, credit, insurance, border control "
    "or medical use."
)


@dataclass(frozen=True)
class DataTerms:
    """Origin and terms of training data, for manifest and model card."""

    description: str
    terms: str
    licence: str

    def started_from(self, backbone: str) -> DataTerms:
        """The same terms with the origin of a pretrained backbone."""
        return dataclasses.replace(
            self,
            description=f"{self.description} The backbone started from the weights in {backbone}.",
            terms=f"{self.terms} The terms of {backbone}, and of what it was trained on, hold too.",
        )


@dataclass(frozen=True)
class Trained:
    """The networks of a finished training, in the order of the manifest's members."""

    labels: tuple[str, ...]
    backbone: Backbone
    heads: dict[str, Head]
    fusion: Fusion
    prior: Prior | None = None


def input_spec(settings: InputSettings) -> Input:
    """The manifest's `input`."""
    return Input(
        size=settings.size,
        colour=settings.colour,
        scale=PIXEL_SCALE,
        mean=settings.mean,
        std=settings.std,
        alignment=ALIGNMENTS[settings.alignment],
    )


def provenance(
    settings: Settings, data: DataTerms, files: dict[str, str], commit: str | None, *, clips_from_stills: bool
) -> Provenance:
    """The provenance of the weights.  files: SHA-256 by name.  commit: of the code at the start of the training."""
    return Provenance(
        data=data.description,
        data_sha256=files,
        data_terms=data.terms,
        recipe=settings.recipe,
        settings=dataclasses.asdict(settings),
        commit=commit,
        seed=settings.seed,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        clips_from_stills=clips_from_stills,
    )


def write_bundle(
    folder: Path, trained: Trained, settings: Settings, origin: Provenance, name: str, version: str, licence: str
) -> None:
    """Write the bundle without measurements; `add_measurements` adds them once it can be loaded and measured."""
    dtype = torch.float16 if settings.store_half else torch.float32
    specs = settings.heads.specs()
    beside = trained.backbone.share if isinstance(trained.backbone, MobileNetV1Dense) else 0.0
    spec = backbone_spec(settings.backbone, beside)
    with NewBundle(folder, replace=True) as path:
        backbone = write_tensors(path, "backbone.safetensors", module_tensors(trained.backbone, dtype))
        members = []
        for k, (member, head) in enumerate(trained.heads.items()):
            weights = write_tensors(path, f"{member}.safetensors", module_tensors(head, dtype))
            members.append(
                Member(
                    name=member,
                    backbone=spec,
                    backbone_weights=backbone,
                    head=specs[member],
                    head_weights=weights,
                    temperature=trained.fusion.temperatures[k],
                    fusion_weight=trained.fusion.weights[k],
                )
            )
        manifest = Manifest(
            name=name,
            version=version,
            labels=trained.labels,
            input=input_spec(settings.input),
            window=settings.window,
            members=tuple(members),
            prior=trained.prior,
            provenance=origin,
            licence=licence,
            intended_use=INTENDED_USE,
        )
        write_manifest(path, manifest)
        (path / "README.md").write_text(model_card(manifest))


def add_measurements(folder: Path, manifest: Manifest, measurements: Sequence[Measurement]) -> None:
    """Put measured metrics into the manifest and the card."""
    complete = manifest.model_copy(update={"measurements": tuple(measurements)})
    replace_manifest(folder, complete)
    write_whole(folder / "README.md", model_card(complete))
