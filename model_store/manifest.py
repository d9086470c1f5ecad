"""The manifest of a bundle, `bundle.json`: everything a worker needs besides the tensors.

Labels, sizes, preprocessing, fusion and provenance are data of the bundle, never constants of the code, so that the
same code serves a bundle with eight labels or a 224-pixel colour input.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from model_store.members import MEMBERS, HeadSpec

FORMAT_VERSION = 1
LEAST_AGREEMENT, MOST_ACCURACY_LOST, FEWEST_FACES = 0.99, 0.005, 1000  # of int8 that a worker chooses by itself
SHARES_SUM_WITHIN = 1e-3  # tolerance of the sum 1, since shares may be rounded
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Alignment(_Frozen):
    """Positions of a face's five landmarks in an aligned crop, as fractions of its side, origin top left.

    Order: the person's right eye, left eye, nose tip, right and left mouth corner (YuNet's order).
    """

    landmarks: tuple[tuple[float, float], ...] = Field(min_length=5, max_length=5)
    box_scale: float = Field(gt=0, description="not read: of the time when some detectors gave boxes alone")
    box_shift_y: float = Field(description="not read, as above")


class Input(_Frozen):
    """Preprocessing of a crop, uint8 in 0..255, for the backbone: (pixel * scale - mean) / std for each channel."""

    size: int = Field(ge=8, le=1024, description="side of the square crop, pixels")
    colour: Literal["rgb", "grey"]
    scale: float = Field(gt=0)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    alignment: Alignment

    @property
    def channels(self) -> int:
        """3 for rgb, 1 for grey."""
        return 3 if self.colour == "rgb" else 1

    @model_validator(mode="after")
    def _one_value_a_channel(self) -> Self:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std need one value a channel, {self.channels} for {self.colour}")
        return self


class WeightsFile(_Frozen):
    """A safetensors file of the bundle's folder."""

    file: FileName
    sha256: Sha256


class GraphFile(_Frozen):
    """One of the two files of an OpenVINO graph."""

    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.(xml|bin)$")
    sha256: Sha256


class Graph(_Frozen):
    """An OpenVINO graph."""

    topology: GraphFile
    constants: GraphFile


class Int8(_Frozen):
    """An encoding graph whose convolutions compute in 8 bits, compared with float32 on faces it was not made with."""

    encoding: Graph
    data: str
    faces: int = Field(ge=1)
    agreement: float = Field(ge=0, le=1, description="share of the faces that get the label of float32")
    accuracy_change: float | None = Field(ge=-1, le=1, description="accuracy minus that of float32; null if unlabelled")

    @property
    def is_like_float32(self) -> bool:
        """Whether a worker may choose it by itself: labels and accuracy stay, measured on enough faces."""
        kept = self.accuracy_change is not None and self.accuracy_change >= -MOST_ACCURACY_LOST
        return kept and self.agreement >= LEAST_AGREEMENT and self.faces >= FEWEST_FACES


class Graphs(_Frozen):
    """The members' networks for a CPU, made of the weights by `python -m worker convert`.

    encoding: pixels to each member's states.  decoding: states and windows to probabilities.  made_of: digest of the
    weights and fields that they were made of, see `Manifest.graph_source`.
    """

    made_of: Sha256
    encoding: Graph
    decoding: Graph
    int8: Int8 | None = None

    @property
    def files(self) -> tuple[GraphFile, ...]:
        """All files."""
        graphs = [self.encoding, self.decoding, *([self.int8.encoding] if self.int8 else [])]
        return tuple(file for graph in graphs for file in (graph.topology, graph.constants))


class ResNet50CaffeSpec(_Frozen):
    """The VGGFace2 ResNet-50 of the published ensemble."""

    architecture: Literal["resnet50_caffe"] = "resnet50_caffe"
    width: int = Field(64, ge=1)
    blocks: tuple[int, ...] = (3, 4, 6, 3)


class CompactResNetSpec(_Frozen):
    """A small residual network."""

    architecture: Literal["compact_resnet"] = "compact_resnet"
    stem: int = Field(ge=1)
    widths: tuple[int, ...] = Field(min_length=1)
    blocks: tuple[int, ...] = Field(min_length=1)


class MobileNetV1Spec(_Frozen):
    """MobileNet; it enlarges crops to `side` pixels."""

    architecture: Literal["mobilenet_v1"] = "mobilenet_v1"
    width: int = Field(32, ge=1)
    side: int = Field(128, ge=32, le=1024, multiple_of=16)


class MobileNetV1DenseSpec(_Frozen):
    """MobileNet as above, and face-api.js' expression network on the same crops, which counts `share` on sharp ones."""

    architecture: Literal["mobilenet_v1_dense"] = "mobilenet_v1_dense"
    width: int = Field(32, ge=1)
    side: int = Field(128, ge=32, le=1024, multiple_of=16)
    share: float = Field(0.5, gt=0, lt=1)


BackboneSpec = Annotated[
    ResNet50CaffeSpec | CompactResNetSpec | MobileNetV1Spec | MobileNetV1DenseSpec,
    Field(discriminator="architecture"),
]


class Member(_Frozen):
    """One of `MEMBERS`.  Members whose `backbone_weights` have the same SHA-256 share one backbone pass."""

    name: str
    backbone: BackboneSpec
    backbone_weights: WeightsFile
    head: SerializeAsAny[HeadSpec]
    head_weights: WeightsFile
    temperature: float = Field(1.0, gt=0, description="the member's logits are divided by it before the softmax")
    fusion_weight: float = Field(ge=0)

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in MEMBERS:
            raise ValueError(f"no member is called {name!r}; there are {', '.join(MEMBERS)}")
        return name

    @field_validator("head", mode="before")
    @classmethod
    def _is_the_members(cls, head: object, info: ValidationInfo) -> object:
        kind = MEMBERS.get(info.data.get("name", ""))
        if kind is None:
            return head
        given = head if isinstance(head, HeadSpec) else HeadSpec.model_validate(head, extra="ignore")
        if given.architecture != kind.architecture:
            raise ValueError(f"member {kind.name} needs a {kind.architecture} head")
        return head if isinstance(head, kind.head) else kind.head.model_validate(head)


class Prior(_Frozen):
    """Label frequencies of the training data, so that a job can choose its prior.

    The fused probabilities contain the factor shares ** trained; those of a job without the option shares ** default.
    """

    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(description="one a label, in their order, sum 1")
    trained: float = Field(ge=0, le=1, description="0: balanced, 1: as in training")
    default: float = Field(ge=0, le=1)


class Provenance(_Frozen):
    """The origin of the weights, so that the training can be reviewed and repeated."""

    data: str
    data_sha256: dict[str, Sha256] = Field(default_factory=dict)
    data_terms: str
    recipe: str
    settings: dict[str, Any] = Field(default_factory=dict)
    commit: str | None = None
    seed: int | None = None
    created_at: str
    clips_from_stills: bool = Field(description="true where temporal members never saw real video in training")


class Measurement(_Frozen):
    """Metrics of the ensemble and its members, with the data and the command that produced them."""

    data: str
    labels: str = Field(description="which annotation: annotations, ferplus or fer2013")
    command: str
    ensemble: dict[str, float]
    members: dict[str, dict[str, float]] = Field(default_factory=dict)


class Manifest(_Frozen):
    """`bundle.json`."""

    format_version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")
    labels: tuple[str, ...] = Field(min_length=2, max_length=64)
    input: Input
    window: int = Field(9, ge=1, le=255, description="frames a temporal member sees; odd, its centre is labelled")
    members: tuple[Member, ...] = Field(min_length=1)
    prior: Prior | None = None
    graphs: Graphs | None = Field(None, description="if absent, a worker on a CPU makes them at each start")
    provenance: Provenance
    measurements: tuple[Measurement, ...] = ()
    licence: str
    intended_use: str

    @property
    def centre(self) -> int:
        """Index of the labelled frame within a window."""
        return self.window // 2

    @property
    def graph_source(self) -> str:
        """SHA-256 of what `Graphs` are made of: hashes of weights, sizes, normalisation, temperatures."""
        members = [member.model_dump(exclude={"fusion_weight"}) for member in self.members]
        fields = [self.input.model_dump(exclude={"alignment", "colour"}), self.window, len(self.labels), members]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [member.name for member in self.members]
        if len(set(names)) != len(names):
            raise ValueError(f"members must differ, got {names}")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must differ")
        if self.window % 2 == 0:
            raise ValueError(f"window must be odd so that it has a centre, got {self.window}")
        if not sum(member.fusion_weight for member in self.members) > 0:
            raise ValueError("fusion weights must not all be zero")
        if self.prior is not None:
            if len(self.prior.shares) != len(self.labels):
                raise ValueError(f"prior needs one share a label, {len(self.labels)}, got {len(self.prior.shares)}")
            if abs(sum(self.prior.shares) - 1) > SHARES_SUM_WITHIN:
                raise ValueError(f"shares of prior must sum to 1, got {sum(self.prior.shares):.4f}")
        specs: dict[str, BackboneSpec] = {}
        for member in self.members:
            known = specs.setdefault(member.backbone_weights.sha256, member.backbone)
            if known != member.backbone:
                raise ValueError(f"{member.backbone_weights.file} has two different backbone architectures")
        return self
