"""Everything that can be set about a detector's training, in one dataclass; kept in the manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from worker.faces.network import DetectorSizes
from worker.faces.refinement import VIEW_PX, RefinementSizes
from worker.training.errors import RecipeError
from worker.training.recipes import Stage, replaced

ADAMW = Stage(  # what both stages share
    optimiser="adamw",
    decay_biases=False,
    schedule="linear",
    warmup_steps=200,
    weight_average=0.998,
    clip_norm=5.0,
)
FINDING_STAGE = replace(ADAMW, epochs=11, batch=24, learning_rate=2.5e-3, weight_decay=0.02, decay_from=0.35)
LANDMARKS_STAGE = replace(ADAMW, epochs=20, batch=128, learning_rate=3e-3, weight_decay=0.01, decay_from=0.3)
MOST_CHANNELS = 1024  # that a manifest allows


@dataclass(frozen=True)
class SceneSettings:
    """What composed scenes look like.

    sides: side of the square scenes in pixels, in turn from step to step.  smallest_px: smallest face, the root of its
    box's area; sizes are drawn log-uniformly up to `largest` sides.  tilt: degrees either way.  most_faces: pasted
    faces a scene.  The shares of the kinds of scene, the rest are faces pasted over a background: `mosaics` of whole
    portraits, `people` real pictures with people in them (where a teacher has labelled any), `empty` without a face.
    `tight`: share of the small faces that are tightly cut ones, where there are any.
    The shares of changes: `grey` scenes, `tint` of grey faces towards skin, `covered` faces, `narrowed` faces, as if
    turned away a little, `lettered` backgrounds, `softened` and `noisy` scenes, and `jpeg` ones.
    """

    sides: tuple[int, ...] = (256, 256, 320)
    smallest_px: float = 9.0
    largest: float = 0.95
    tilt: float = 40.0
    most_faces: int = 16
    mosaics: float = 0.1
    people: float = 0.28
    empty: float = 0.2
    grey: float = 0.25
    tint: float = 0.75
    tight: float = 0.5
    covered: float = 0.2
    narrowed: float = 0.3
    lettered: float = 0.12
    softened: float = 0.4
    noisy: float = 0.35
    jpeg: float = 0.4


@dataclass(frozen=True)
class LossSettings:
    """Weights of the loss's parts, and which cells answer for a face.

    radius: a cell answers for a face if its centre is at most this many strides, or this share of the face's size, from
    the face's centre.  sizes: smallest and largest face in strides that a stride answers for.
    """

    score: float = 1.0
    box: float = 2.0
    landmarks: float = 2.5
    radius_strides: float = 0.75
    radius_size: float = 0.2
    sizes: tuple[float, float] = (1.0, 5.0)


@dataclass(frozen=True)
class ViewSettings:
    """What the views look like that landmarks are made exact in; see `worker.training.detector.refining`.

    The spreads by which a detector's landmarks misplace a face: turn in degrees, zoom as a logarithm, shift in sides of
    the view.  The shares of `narrowed`, `coarse` (in quarters; shown in at least `coarsest_px` pixels) and `covered`
    views.  noise: the strongest, in grey values.
    """

    turn: float = 10.0
    zoom: float = 0.12
    shift: float = 0.035
    narrowed: float = 0.3
    coarse: float = 0.5
    coarsest_px: int = 12
    covered: float = 0.2
    noise: float = 14.0


@dataclass(frozen=True)
class DetectorSettings:
    """A detector's training.

    scenes_an_epoch: scenes composed between two validations; stage.batch of them a step.  held_out_portraits and
    held_out_backgrounds: the last so many, for validation only.  mined: share of empty scenes that look at places where
    the network of the epoch before saw a face that is none.  loaders: processes that compose scenes, 0 for one for two
    cores; changes nothing in the result.  small_bonus: what makes scores of small faces comparable, see
    `worker.faces.suppression.faces_in`; used after training, for the threshold and in serving.  refinement, views and
    landmarks: the network that makes landmarks exact, what it sees, and its training.
    """

    seed: int = 1
    sizes: DetectorSizes = field(default_factory=DetectorSizes)
    scenes: SceneSettings = field(default_factory=SceneSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    stage: Stage = FINDING_STAGE
    refinement: RefinementSizes = field(default_factory=RefinementSizes)
    views: ViewSettings = field(default_factory=ViewSettings)
    landmarks: Stage = LANDMARKS_STAGE
    scenes_an_epoch: int = 14400
    held_out_portraits: int = 500
    held_out_backgrounds: int = 100
    mined: float = 0.5
    small_bonus: float = 0.27
    half_precision: bool = False
    loaders: int = 0


def detector_settings(overrides: Iterable[str] = ()) -> DetectorSettings:
    """The settings with `path=value` changes.  Raises: RecipeError for an unknown path or a value that does not fit."""
    settings = replaced(DetectorSettings(), overrides)
    if settings.stage.batch < 1 or settings.stage.epochs < 1 or settings.scenes_an_epoch < settings.stage.batch:
        raise RecipeError("stage.batch and stage.epochs must be at least 1, scenes_an_epoch at least stage.batch")
    if settings.landmarks.batch < 1 or settings.landmarks.epochs < 1 or settings.held_out_portraits < 1:
        raise RecipeError("landmarks.batch, landmarks.epochs and held_out_portraits must be at least 1")
    channels = (*settings.refinement.widths, settings.refinement.last)
    if len(channels) != 6 or not all(1 <= count <= MOST_CHANNELS for count in channels):
        raise RecipeError(f"refinement needs five widths and last, each of 1 to {MOST_CHANNELS} channels")
    if not 1 <= settings.views.coarsest_px < VIEW_PX:
        raise RecipeError(f"views.coarsest_px must lie in 1..{VIEW_PX - 1}")
    if any(side < 64 for side in settings.scenes.sides) or not settings.scenes.sides:
        raise RecipeError("scenes.sides must name sides of at least 64 pixels")
    return settings


def as_json(settings: DetectorSettings) -> dict[str, object]:
    """The settings as plain JSON values."""
    return dataclasses.asdict(settings)
