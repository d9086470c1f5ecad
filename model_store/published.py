"""Import of the published checkpoints (xinqi-fan/ABAW2021) into a bundle, and of VGGFace2 weights into a backbone.

The files are pickles.  PyTorch's weights-only reader reads them without running code; its allow-list has
`argparse.Namespace` besides tensors.
"""

from __future__ import annotations

import argparse
import pickle
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model_store.bundle import BundleError, NewBundle, Tensors, write_backbone, write_manifest, write_tensors
from model_store.manifest import (
    Alignment,
    Input,
    Manifest,
    Member,
    Provenance,
    ResNet50CaffeSpec,
)
from model_store.members import MEMBERS, FrameHeadSpec, HeadSpec, RecurrentHeadSpec, TransformerHeadSpec

LABELS = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
CROP_PX = 224
# Landmarks of Aff-Wild2's 112 x 112 aligned faces, pixels.  Source: Deng et al. 2019, ArcFace.
TEMPLATE_112 = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
# The defaults of the specs are the published sizes.
BACKBONE, GRU, TRANSFORMER = ResNet50CaffeSpec(), RecurrentHeadSpec(), TransformerHeadSpec(position_axis="batch")
EMBEDDING, HIDDEN = GRU.embedding, GRU.hidden
INNER = int(EMBEDDING * TRANSFORMER.mlp_ratio)
FEATURE = 32 * BACKBONE.width
STAGES = tuple(enumerate(BACKBONE.blocks, start=2))  # conv2 .. conv5 and their blocks
VGGFACE2_CLASSES = 8631
POSITIONS = 5000

Shapes = dict[str, tuple[int, ...]]


def import_published(files: Mapping[str, Path], name: str, out: Path) -> Manifest:
    """Write a bundle of the three published checkpoints to the folder `out`.

    files: a checkpoint for each member.  Equal fusion weights, published preprocessing and position rule; equal
    backbones become one file.  Raises: BundleError if a file is not such a checkpoint; then nothing is written.
    """
    states = {member: _read_member(path, member) for member, path in files.items()}
    with NewBundle(out) as folder:
        written: dict[str, str] = {}
        members = []
        for member, state in states.items():
            backbone = {key.removeprefix("cnn."): v for key, v in state.items() if key in _prefixed_backbone()}
            weights = write_tensors(folder, f"backbone-{len(written)}.safetensors", backbone)
            if weights.sha256 in written:
                (folder / weights.file).unlink()
            else:
                written[weights.sha256] = weights.file
            weights = weights.model_copy(update={"file": written[weights.sha256]})
            head = {ours: state[theirs].reshape(shape) for theirs, (ours, shape) in _HEADS[member].items()}
            members.append(
                Member(
                    name=member,
                    backbone=BACKBONE,
                    backbone_weights=weights,
                    head=_HEAD_SPECS[member],
                    head_weights=write_tensors(folder, f"{member}.safetensors", head),
                    fusion_weight=MEMBERS[member].weight,
                )
            )
        manifest = _manifest(name, tuple(members))
        write_manifest(folder, manifest)
    return manifest


def import_backbone(path: Path, out: Path) -> None:
    """Convert `resnet50_ft_dag.pth` to a safetensors backbone, a starting point of training.

    Raises: BundleError if the file is not this checkpoint or `out` exists; then nothing is written.
    """
    expected = _backbone_shapes() | {
        "classifier.weight": (VGGFACE2_CLASSES, FEATURE, 1, 1),
        "classifier.bias": (VGGFACE2_CLASSES,),
    }
    state = _checked(path, _load(path), expected)
    kept = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    write_backbone(out, kept)


def _read_member(path: Path, member: str) -> Tensors:
    raw = _load(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("model"), dict):
        raise BundleError(f"{path} is not a published checkpoint: it has no entry 'model' with a state dict")
    state = {str(key).removeprefix("module."): value for key, value in raw["model"].items()}
    return _checked(path, state, _prefixed_backbone() | _HEAD_SHAPES[member])


def _load(path: Path) -> object:
    try:
        # The reader warns about pickles before it rejects them; the error suffices.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from None
    except pickle.UnpicklingError:
        raise BundleError(
            f"{path} is refused: reading it would run code from the file, or it is not a checkpoint"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError, TypeError):
        raise BundleError(f"{path} is not a PyTorch checkpoint, or it is damaged") from None


def _checked(path: Path, state: object, expected: Shapes) -> Tensors:
    """The tensors as float32, with exactly the expected names and shapes; batch counters are dropped.

    Raises: BundleError for missing, extra, misshapen or non-finite tensors.
    """
    if not isinstance(state, dict):
        raise BundleError(f"{path} is not a state dict")
    found = {str(key): value for key, value in state.items() if not str(key).endswith("num_batches_tracked")}
    if missing := sorted(expected.keys() - found.keys()):
        raise BundleError(f"{path} lacks {len(missing)} of the expected tensors, first {missing[0]!r}")
    if extra := sorted(found.keys() - expected.keys()):
        raise BundleError(f"{path} has {len(extra)} unexpected entries, first {extra[0]!r}")
    tensors: Tensors = {}
    for key, shape in expected.items():
        value = found[key]
        if not isinstance(value, Tensor) or tuple(value.shape) != shape:
            given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise BundleError(f"{path}: {key!r} is {given}, expected {shape}")
        tensors[key] = value.detach().to(torch.float32).numpy()
        if not np.isfinite(tensors[key]).all():
            raise BundleError(f"{path}: {key!r} has NaN or infinite values")
    return tensors


def _backbone_shapes() -> Shapes:
    shapes: Shapes = {}

    def add(name: str, size_out: int, size_in: int, kernel: int) -> None:
        shapes[f"{name}.weight"] = (size_out, size_in, kernel, kernel)
        shapes.update({f"{name}_bn.{leaf}": (size_out,) for leaf in ("weight", "bias", "running_mean", "running_var")})

    add("conv1_7x7_s2", 64, 3, 7)
    size_in = 64
    for stage, blocks in STAGES:
        inner = 64 * 2 ** (stage - 2)
        for block in range(1, blocks + 1):
            add(f"conv{stage}_{block}_1x1_reduce", inner, size_in, 1)
            add(f"conv{stage}_{block}_3x3", inner, inner, 3)
            add(f"conv{stage}_{block}_1x1_increase", 4 * inner, inner, 1)
            if block == 1:
                add(f"conv{stage}_{block}_1x1_proj", 4 * inner, size_in, 1)
            size_in = 4 * inner
    return shapes


def _prefixed_backbone() -> Shapes:
    return {f"cnn.{key}": shape for key, shape in _backbone_shapes().items()}


def _head_names() -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
    """{member: {published key: (key here, shape)}} of the tensors that heads use."""
    labels = len(LABELS)
    gates = 3 * HIDDEN
    recurrent: dict[str, tuple[str, tuple[int, ...]]] = {
        "mlp.fc_0.weight": ("embed.weight", (EMBEDDING, FEATURE)),
        "mlp.fc_0.bias": ("embed.bias", (EMBEDDING,)),
        "gru.fc_1.weight": ("classifier.weight", (labels, 2 * HIDDEN)),
        "gru.fc_1.bias": ("classifier.bias", (labels,)),
    }
    for suffix in ("", "_reverse"):
        for leaf, shape in {
            "weight_ih_l0": (gates, EMBEDDING),
            "weight_hh_l0": (gates, HIDDEN),
            "bias_ih_l0": (gates,),
            "bias_hh_l0": (gates,),
        }.items():
            recurrent[f"gru.GRU_layer.{leaf}{suffix}"] = (f"gru.{leaf}{suffix}", shape)
    transformer: dict[str, tuple[str, tuple[int, ...]]] = {
        "proj.weight": ("embed.weight", (EMBEDDING, FEATURE)),
        "proj.bias": ("embed.bias", (EMBEDDING,)),
        "trans.norm.weight": ("norm.weight", (EMBEDDING,)),
        "trans.norm.bias": ("norm.bias", (EMBEDDING,)),
        "fc.weight": ("classifier.weight", (labels, EMBEDDING)),
        "fc.bias": ("classifier.bias", (labels,)),
    }
    layers = {"attn.qkv": (3 * EMBEDDING, EMBEDDING), "attn.proj": (EMBEDDING, EMBEDDING)}
    layers |= {"fc1": (INNER, EMBEDDING), "fc2": (EMBEDDING, INNER)}
    for block in range(TRANSFORMER.depth):
        at = f"blocks.{block}"
        for norm in ("norm1", "norm2"):
            for leaf in ("weight", "bias"):
                transformer[f"trans.{at}.{norm}.{leaf}"] = (f"{at}.{norm}.{leaf}", (EMBEDDING,))
        for layer, shape in layers.items():
            theirs = f"trans.{at}.mlp.{layer}" if layer.startswith("fc") else f"trans.{at}.{layer}"
            transformer[f"{theirs}.weight"] = (f"{at}.{layer}.weight", shape)
            transformer[f"{theirs}.bias"] = (f"{at}.{layer}.bias", shape[:1])
    frame: dict[str, tuple[str, tuple[int, ...]]] = {
        "cnn.classifier.weight": ("classifier.weight", (labels, FEATURE)),
        "cnn.classifier.bias": ("classifier.bias", (labels,)),
    }
    return {"cnn": frame, "cnn_rnn": recurrent, "cnn_transformer": transformer}


_HEADS = _head_names()
_HEAD_SHAPES: dict[str, Shapes] = {
    member: {theirs: shape for theirs, (_, shape) in names.items()} for member, names in _HEADS.items()
}
# The published files store the classifier as a 1x1 convolution, and an unused norm and the position table.
_HEAD_SHAPES["cnn"]["cnn.classifier.weight"] = (len(LABELS), FEATURE, 1, 1)
_HEAD_SHAPES["cnn_transformer"] |= {
    "norm_cnn.weight": (EMBEDDING,),
    "norm_cnn.bias": (EMBEDDING,),
    "trans.pos_embed.pe": (POSITIONS, 1, EMBEDDING),
}
_HEAD_SPECS: dict[str, HeadSpec] = {
    "cnn": FrameHeadSpec(),
    "cnn_rnn": GRU,
    "cnn_transformer": TRANSFORMER,
}


def _manifest(name: str, members: tuple[Member, ...]) -> Manifest:
    points = tuple((x / 112, y / 112) for x, y in TEMPLATE_112)
    return Manifest(
        name=name,
        version="published-1",
        labels=LABELS,
        input=Input(
            size=CROP_PX,
            colour="rgb",
            scale=1 / 255,
            mean=MEAN,
            std=STD,
            alignment=Alignment(landmarks=points, box_scale=1.0, box_shift_y=0.0),
        ),
        members=members,
        provenance=Provenance(
            data="Aff-Wild2, by the authors of the checkpoints",
            data_terms="Aff-Wild2 is for non-commercial research; so are weights trained on it",
            recipe="published",
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            clips_from_stills=False,
        ),
        licence="that of the imported checkpoints",
        intended_use="describes how faces look; no statement about what people feel, not for decisions about people",
    )
