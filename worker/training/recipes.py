"""Recipes: every setting of a training, in one dataclass, under a name.

`published` is the recipe of the paper's code (MODEL: SGD, ten epochs, cross entropy over all nine outputs, no
rebalancing).  `default` is ours: soft targets, rebalancing, averaged weights, calibrated fusion, on a small backbone
that was trained on faces before; `compact` is the same on a backbone that starts from nothing.
A setting is overridden by its path, for example `static.epochs=3` or `heads.embedding=96`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from model_store.manifest import Alignment, MobileNetV1Spec, ResNet50CaffeSpec
from model_store.members import FrameHeadSpec, HeadSpec, RecurrentHeadSpec, TransformerHeadSpec
from worker.ensemble.members import PositionAxis
from worker.training.augment import FLIP_ONLY, Augmentation
from worker.training.errors import RecipeError
from worker.training.overrides import replaced

# Measured by `python -m worker.training.alignment` on 4,000 of the FER+ training images.
FER_ALIGNMENT = Alignment(
    landmarks=((0.3175, 0.3878), (0.6825, 0.3878), (0.5, 0.6047), (0.35, 0.7661), (0.65, 0.7661)),
    box_scale=1.03,
    box_shift_y=0.004,
)
# The usual 112-pixel template (insightface, `arcface_dst`), to which Aff-Wild2's aligned faces are close.
FACE112_ALIGNMENT = Alignment(
    landmarks=((0.3419, 0.4615), (0.6565, 0.4598), (0.5003, 0.6405), (0.3710, 0.8247), (0.6315, 0.8232)),
    box_scale=1.0,
    box_shift_y=0.0,
)
ALIGNMENTS = {"fer": FER_ALIGNMENT, "face112": FACE112_ALIGNMENT}


@dataclass(frozen=True)
class InputSettings:
    """The backbone's input: side in pixels, colour, and per channel mean and standard deviation of 0..1 pixels."""

    size: int = 48
    colour: Literal["grey", "rgb"] = "grey"
    mean: tuple[float, ...] = (0.5064,)
    std: tuple[float, ...] = (0.2544,)
    alignment: Literal["fer", "face112"] = "fer"


@dataclass(frozen=True)
class BackboneSettings:
    """`compact_resnet` reads stem, widths, blocks; `resnet50_caffe` width, blocks; `mobilenet_v1` width, side."""

    architecture: Literal["compact_resnet", "resnet50_caffe", "mobilenet_v1"] = "compact_resnet"
    stem: int = 32
    widths: tuple[int, ...] = (64, 128, 256)
    width: int = 64
    blocks: tuple[int, ...] = (1, 2, 2)
    side: int = 128


@dataclass(frozen=True)
class HeadSettings:
    """Sizes of the temporal members' heads.  position_axis: see `TransformerHead`."""

    embedding: int = 128
    hidden: int = 64
    attention_heads: int = 4
    depth: int = 2
    mlp_ratio: float = 2.0
    position_axis: PositionAxis = "time"

    def specs(self) -> dict[str, HeadSpec]:
        """Every member that is trained, with its head; the frame head is what the static CNN was trained with."""
        return {
            "cnn": FrameHeadSpec(),
            "cnn_rnn": RecurrentHeadSpec(embedding=self.embedding, hidden=self.hidden),
            "cnn_transformer": TransformerHeadSpec(
                embedding=self.embedding,
                heads=self.attention_heads,
                depth=self.depth,
                mlp_ratio=self.mlp_ratio,
                position_axis=self.position_axis,
            ),
        }


@dataclass(frozen=True)
class Stage:
    """How one network is trained.

    batch: items a step, over all processes.  schedule: `steps` multiplies the rate by 0.1 after each epoch of
    `milestones`; `linear` warms up over `warmup_steps`, holds, then falls to 0 from `decay_from` of the epochs on.
    weight_average: decay of an exponential average of the weights, which is then what is measured and kept; 0 for
    none.  clip_norm: largest norm of the gradient; 0 for any.  keep: the epoch with the `best` validation metric, or
    the `last` one.  patience: stop after so many epochs without a better metric; 0 for never.  rebalance: items are
    drawn in proportion to (most frequent / own label)^rebalance; 0 takes every item once an epoch.  mixup: both
    parameters of the Beta distribution that mixes pairs; 0 for none.
    """

    epochs: int = 10
    batch: int = 96
    optimiser: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 5e-4
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    decay_biases: bool = True
    schedule: Literal["constant", "steps", "linear"] = "constant"
    milestones: tuple[int, ...] = ()
    warmup_steps: int = 0
    decay_from: float = 0.5
    weight_average: float = 0.0
    clip_norm: float = 0.0
    keep: Literal["best", "last"] = "best"
    patience: int = 0
    rebalance: float = 0.0
    mixup: float = 0.0


@dataclass(frozen=True)
class StillsSettings:
    """Weights of the annotations (worker.training.annotated_faces) in what is served; 0: not used.

    teacher_beside: share of the teacher's own logits in the static member's on sharp crops; its features then stand
    behind the backbone's.  0 for none.
    """

    votes: float = 0.8
    fer2013: float = 0.2
    portraits: float = 0.0
    teacher: float = 0.0
    teacher_beside: float = 0.0


@dataclass(frozen=True)
class ClipSettings:
    """Clips made from stills (worker.training.clips).

    frames: length.  change: share of clips that change to another still; fade_frames: longest cross-fade, 1 is a cut.
    damaged: share of clips with damaged stretches; damage_rate: share of their frames.  turn (degrees), shift and zoom
    (fractions): how far a face drifts.  jitter: of the crop from frame to frame, fraction of the side.  still_windows:
    how many stills are shown for a whole window, as a fraction of the stills' number.  speech: share of clips in which
    the jaw moves as in speech.  coarse: share of clips that are drawn on 48 pixels and enlarged.  pool: how many stills
    clips are made from, drawn as the static CNN's are; 0 for all.  distilled: share of the static CNN's own answer in a
    still's target.  sharp: share of portraits in that pool; 0 as they come.
    """

    frames: int = 15
    change: float = 0.5
    fade_frames: int = 5
    damaged: float = 0.6
    damage_rate: float = 0.3
    turn: float = 10.0
    shift: float = 0.06
    zoom: float = 0.1
    jitter: float = 0.012
    still_windows: float = 1.0
    speech: float = 0.0
    coarse: float = 0.0
    pool: int = 0
    distilled: float = 0.0
    sharp: float = 0.0


TALKING = ClipSettings(25, 0.4, 9, turn=12.0, jitter=0.02, speech=0.6, coarse=0.5, pool=5000, distilled=0.7, sharp=0.5)


@dataclass(frozen=True)
class Settings:
    """A whole training.

    window: frames a temporal member sees.  temporal_outputs: `all` trains every output of a window, `centre` the one
    that is served.  train_stride: frames between two training windows.  context: `labelled` makes windows from the
    labelled frames of a video alone, `all` lets unlabelled frames give context.  crop_scale: smallest area of a random
    resized crop of video frames; 1 for none.  feature_views: how many differently augmented copies of the frozen
    backbone's features are computed, each once; the first is not augmented.  fit_fusion: fit weights and temperatures
    on validation data, else equal weights.  half_precision: autocast to bfloat16.  loaders: decoding processes.
    int8: make a graph in 8 bits, too.
    balanced: learn the scores of equally frequent labels; else those of the data.  default_prior: of the bundle, where
    a job asks for none.  transformer_means: the Transformer is set to the mean of the static logits in
    its window and not trained.  fusion_weights: the members' weights, where they are not to be fitted.
    """

    recipe: str
    input: InputSettings = field(default_factory=InputSettings)
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    heads: HeadSettings = field(default_factory=HeadSettings)
    window: int = 9
    static: Stage = field(default_factory=Stage)
    temporal: Stage = field(default_factory=Stage)
    temporal_outputs: Literal["all", "centre"] = "all"
    train_stride: int = 4
    context: Literal["labelled", "all"] = "labelled"
    augmentation: Augmentation = field(default_factory=Augmentation)
    crop_scale: float = 0.2
    feature_views: int = 1
    stills: StillsSettings = field(default_factory=StillsSettings)
    clips: ClipSettings = field(default_factory=ClipSettings)
    balanced: bool = False
    default_prior: float = 1.0
    transformer_means: bool = False
    fusion_weights: tuple[float, ...] = ()
    fit_fusion: bool = True
    half_precision: bool = False
    int8: bool = False
    store_half: bool = False
    loaders: int = 2
    seed: int = 1


def published() -> Settings:
    """The published recipe.  Source: arXiv 2107.05160 and its public code (xinqi-fan/ABAW2021)."""
    backbone, gru, transformer = ResNet50CaffeSpec(), RecurrentHeadSpec(), TransformerHeadSpec()
    stage = Stage(epochs=10, batch=96, optimiser="sgd", momentum=0.9, weight_decay=5e-4)
    return Settings(
        recipe="published",
        input=InputSettings(224, "rgb", (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761), "face112"),
        backbone=BackboneSettings(backbone.architecture, width=backbone.width, blocks=backbone.blocks),
        heads=HeadSettings(
            embedding=gru.embedding,
            hidden=gru.hidden,
            attention_heads=transformer.heads,
            depth=transformer.depth,
            mlp_ratio=transformer.mlp_ratio,
        ),
        augmentation=FLIP_ONLY,
        static=dataclasses.replace(stage, learning_rate=5e-4),
        temporal=dataclasses.replace(stage, learning_rate=1e-3),
        stills=StillsSettings(votes=1.0, fer2013=0.0),
        fit_fusion=False,
    )


def compact() -> Settings:
    """A small backbone from random weights."""
    return Settings(
        recipe="compact",
        static=Stage(
            epochs=40,
            batch=128,
            optimiser="sgd",
            learning_rate=0.1,
            nesterov=True,
            weight_decay=5e-4,
            decay_biases=False,
            schedule="linear",
            warmup_steps=300,
            decay_from=0.5,
            weight_average=0.998,
            clip_norm=5.0,
            rebalance=0.4,
            mixup=0.2,
        ),
        temporal=Stage(
            epochs=3,
            batch=256,
            optimiser="adamw",
            learning_rate=5e-4,
            weight_decay=0.05,
            decay_biases=False,
            schedule="linear",
            warmup_steps=100,
            decay_from=0.3,
            weight_average=0.995,
            clip_norm=1.0,
        ),
        temporal_outputs="centre",
        train_stride=1,
        context="all",
        feature_views=2,
        half_precision=True,
        store_half=True,
    )


def default() -> Settings:
    """Our recipe, the one of the bundle that ships.

    As `compact`, on the backbone of the bundle's version 2, which knows faces and expressions (`--backbone`), with
    portraits and a teacher (`--teacher`), on larger crops, for equally frequent labels, and with clips of faces
    that talk.
    """
    base = compact()
    backbone = MobileNetV1Spec()
    return dataclasses.replace(
        base,
        recipe="default",
        input=InputSettings(size=112),
        window=19,
        balanced=True,
        int8=True,
        default_prior=0.25,
        # A mean over the window needs neither positions nor a second block, and most of it is computed once a frame.
        heads=HeadSettings(depth=1, position_axis="batch"),
        transformer_means=True,
        fusion_weights=(0.05, 0.15, 0.8),
        stills=StillsSettings(votes=0.5, fer2013=0.35, portraits=0.1, teacher=0.05, teacher_beside=0.6),
        augmentation=Augmentation(blur=0.3),
        clips=TALKING,
        backbone=BackboneSettings(backbone.architecture, width=backbone.width, side=112),
        temporal=dataclasses.replace(base.temporal, epochs=2, learning_rate=2e-4),
        static=dataclasses.replace(
            base.static,
            epochs=8,
            batch=64,
            optimiser="adamw",
            learning_rate=5e-4,
            weight_decay=0.05,
            warmup_steps=200,
            decay_from=0.3,
            rebalance=0.5,
            # The metric hangs on a few dozen faces of the rare labels; the last epoch has the lowest cross entropy.
            keep="last",
        ),
    )


RECIPES = {"published": published, "default": default, "compact": compact}


def recipe(name: str, overrides: Iterable[str] = ()) -> Settings:
    """The recipe of that name with `path=value` settings changed.

    Raises: RecipeError for an unknown name, path or value.
    """
    if name not in RECIPES:
        raise RecipeError(f"no recipe {name!r}, there are: {', '.join(RECIPES)}")
    settings = replaced(RECIPES[name](), overrides)
    check(settings)
    return settings


def check(settings: Settings) -> None:
    """Raises: RecipeError where settings do not fit each other."""
    channels = 3 if settings.input.colour == "rgb" else 1
    if not len(settings.input.mean) == len(settings.input.std) == channels:
        raise RecipeError(f"input.mean and input.std need {channels} value(s) for {settings.input.colour}")
    if settings.window < 1 or settings.window % 2 == 0:
        raise RecipeError(f"window must be odd, got {settings.window}")
    if settings.heads.embedding % settings.heads.attention_heads or settings.heads.embedding % 2:
        raise RecipeError("heads.embedding must be even and a multiple of heads.attention_heads")
    for name, stage in (("static", settings.static), ("temporal", settings.temporal)):
        if stage.batch < 1 or stage.epochs < 1:
            raise RecipeError(f"{name}.batch and {name}.epochs must be at least 1")
    if settings.fusion_weights and (
        len(settings.fusion_weights) != len(settings.heads.specs()) or min(settings.fusion_weights) <= 0
    ):
        raise RecipeError("fusion_weights must be one above 0 for each member")
    if settings.train_stride < 1 or settings.feature_views < 1:
        raise RecipeError("train_stride and feature_views must be at least 1")
    if not 0 < settings.crop_scale <= 1:
        raise RecipeError("crop_scale must lie in 0..1, without 0")
    compact = settings.backbone.architecture == "compact_resnet"
    if compact and len(settings.backbone.widths) != len(settings.backbone.blocks):
        raise RecipeError("backbone.widths and backbone.blocks must name the same number of stages")
    if settings.backbone.side < 32 or settings.backbone.side % 16:
        raise RecipeError("backbone.side must be a multiple of 16")
    stills = settings.stills
    if min(stills.votes, stills.fer2013, stills.portraits, stills.teacher) < 0 or not stills.votes:
        raise RecipeError("weights of stills must not be negative, and stills.votes must be above 0")
