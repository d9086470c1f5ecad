"""A whole training: static CNN, temporal members on its frozen features, fusion, bundle.

stills, Aff-Wild2 or a manifest -> static CNN -> features, once -> GRU and Transformer -> fusion -> bundle
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model_store.manifest import Prior
from model_store.members import MEMBERS, FrameHeadSpec
from worker.ensemble.members import Head, TransformerHead
from worker.ensemble.networks import stored_tensors
from worker.training.errors import DataError
from worker.training.export import Trained
from worker.training.fingerprint import signature_of
from worker.training.fusion import Fusion, fit_fusion, plain_fusion
from worker.training.journal import Journal
from worker.training.loop import Run, Task, Trainer
from worker.training.place import Place
from worker.training.recipes import Settings
from worker.training.static import PixelBatch, Served, StaticNet, frozen, new_static_net
from worker.training.temporal import TemporalTask, WindowSet, centre_logits, new_head, set_to_mean


class Source(Protocol):
    """Labelled data of one layout, for training and validation.

    annotations: each annotation's weight in what is served.  shares: (K,) of the labels in training, as they come.
    clips_from_stills: no real video.
    """

    labels: tuple[str, ...]
    annotations: Mapping[str, float]
    shares: Tensor
    clips_from_stills: bool

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of the data, by name."""

    def static_task(self, net: StaticNet, place: Place) -> Task[PixelBatch]:
        """The training task of the static CNN."""

    def completed(self, served: Served) -> Served:
        """What is served of the trained static CNN, with what the recipe puts beside it."""

    def window_sets(self, net: Served, journal: Journal) -> tuple[WindowSet, dict[str, WindowSet]]:
        """Windows of the frozen backbone's features: for training, and for validation by name."""


def train_ensemble(settings: Settings, source: Source, run: Run, backbone_file: Path | None = None) -> Trained:
    """Train all members and their fusion.

    backbone_file: weights to start the backbone from, as `worker import --backbone` writes them.

    Raises: Interrupted after Ctrl-C with checkpoints kept; TrainingError.
    """
    net = new_static_net(settings, len(source.labels), source.annotations)
    if backbone_file is not None:
        load_backbone(net, backbone_file)
    elif settings.backbone.architecture != "compact_resnet":
        run.journal.say("the backbone starts from random weights; this recipe expects trained ones, see --backbone")
    static = Trainer("static", source.static_task(net, run.place), settings.static, run).run()
    run.journal.say(f"static: epoch {static.epoch} is kept")
    net.load_state_dict(static.state)
    served = source.completed(frozen(net.to(run.place.device)).served())

    train, validation = source.window_sets(served, run.journal)
    heads: dict[str, Head] = {}
    for k, (name, spec) in enumerate(settings.heads.specs().items()):
        if isinstance(spec, FrameHeadSpec):
            heads[name] = served.head
            continue
        head = new_head(spec, served.backbone.feature_size, len(source.labels), settings.seed + k)
        if settings.transformer_means and isinstance(head, TransformerHead):
            set_to_mean(head, served.head.cpu(), train.features, settings.window)
            served.head.to(run.place.device)
            heads[name] = frozen(head.to(run.place.device))
            continue
        task = TemporalTask(head, train, validation, source.shares, settings, run.place)
        outcome = Trainer(f"temporal-{name}", task, settings.temporal, run).run()
        run.journal.say(f"{name}: epoch {outcome.epoch} is kept")
        head.load_state_dict(outcome.state)
        heads[name] = head.eval().requires_grad_(False)
    fusion = (
        fuse_members(heads, validation, source.shares if settings.balanced else None, settings.fusion_weights)
        if settings.fit_fusion
        else plain_fusion([MEMBERS[name].weight for name in heads])
    )
    run.journal.say(f"fusion: weights {fusion.weights}, temperatures {fusion.temperatures}")
    return Trained(source.labels, served.backbone, heads, fusion, prior_of(settings, source.shares))


def prior_of(settings: Settings, shares: Tensor) -> Prior | None:
    """What a job can choose the prior with; None where a label never occurs in training."""
    rounded = [round(float(share), 6) for share in shares / shares.sum()]
    if not min(rounded) > 0 or max(rounded) >= 1:
        return None
    return Prior(shares=tuple(rounded), trained=0.0 if settings.balanced else 1.0, default=settings.default_prior)


def fuse_members(
    heads: dict[str, Head], validation: dict[str, WindowSet], shares: Tensor | None = None, given: Sequence[float] = ()
) -> Fusion:
    """Fit weights and temperatures on the validation windows; every set counts the same in total.

    shares: (K,) of the labels, where logits are those of equally frequent ones.  given: weights that are not fitted.
    """
    logits: list[Tensor] = []
    truth: list[Tensor] = []
    importance: list[Tensor] = []
    for data in validation.values():
        scored = data.scored()
        found = scored.truth[scored.centres]
        logits.append(torch.stack([centre_logits(head, scored) for head in heads.values()]))
        truth.append(found)
        importance.append(torch.full((len(found),), 1 / len(found)))
    return fit_fusion(torch.cat(logits, dim=1), torch.cat(truth), torch.cat(importance), shares, given)


def load_backbone(net: StaticNet, path: Path) -> None:
    """Start from a backbone's weights, a safetensors file.

    Raises: DataError if it cannot be read or belongs to another architecture.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} is not a backbone file: {error}") from None
    wanted = stored_tensors(net.backbone)
    wrong = sorted(
        key
        for key in wanted.keys() | tensors.keys()
        if key not in wanted or key not in tensors or wanted[key].shape != tensors[key].shape
    )
    if wrong:
        raise DataError(f"{path} does not fit the recipe's backbone: {wrong[0]!r} differs (see backbone.* settings)")
    net.backbone.load_state_dict(tensors, strict=False)


def run_signature(settings: Settings, files: dict[str, str], world: int) -> str:
    """A digest of what a checkpoint depends on: settings, data, number of processes."""
    # The number of loader processes does not change the result.
    return signature_of(asdict(replace(settings, loaders=0)), files, world)
