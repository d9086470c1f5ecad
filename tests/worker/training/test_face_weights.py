"""Import of the face-recognition weights that the default recipe starts from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from tests.commands import run_here
from tests.service import ROOT
from worker.ensemble.backbones import MOBILENET_UNITS, MobileNetV1
from worker.training.ensemble import load_backbone
from worker.training.recipes import InputSettings, recipe
from worker.training.static import new_static_net

Weights = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def faceres(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Weights]:
    """A file like `faceres.json`, with its weights beside it, and what they are."""
    rng = np.random.default_rng(3)
    weights: Weights = {"age_pred/kernel": rng.normal(size=(4, 3)), "conv1_relu/axis": np.array(7, np.int32)}
    weights["conv1/convolution/merged_input"] = rng.normal(size=(3, 3, 3, 32), scale=0.01)
    weights["conv1_bn/batchnorm_1/sub"] = rng.normal(size=32)
    size_in = 32
    for k, (multiple, _) in enumerate(MOBILENET_UNITS, start=1):
        size_out = 32 * multiple
        weights[f"conv_dw_{k}/depthwise_kernel"] = rng.normal(size=(3, 3, size_in, 1), scale=0.5)
        weights[f"conv_dw_{k}_bn/batchnorm_1/mul"] = rng.uniform(0.5, 1.5, size=size_in)
        weights[f"conv_dw_{k}_bn/batchnorm_1/sub"] = rng.normal(size=size_in, scale=0.3)
        shape = (1, 1, size_in, size_out)
        weights[f"conv_pw_{k}/convolution/merged_input"] = rng.normal(size=shape, scale=size_in**-0.5)
        weights[f"conv_pw_{k}_bn/batchnorm_1/sub"] = rng.normal(size=size_out, scale=0.3)
        size_in = size_out
    listed, stored = [], b""
    for name, value in weights.items():
        entry: dict[str, object] = {"name": name, "shape": list(value.shape), "dtype": "int32"}
        if value.dtype != np.int32:
            weights[name] = value.astype(np.float16)
            entry |= {"dtype": "float32", "quantization": {"dtype": "float16", "original_dtype": "float32"}}
        listed.append(entry)
        stored += weights[name].tobytes()
    file = tmp_path_factory.mktemp("faceres") / "faceres.json"
    file.write_text(json.dumps({"weightsManifest": [{"paths": ["faceres.bin"], "weights": listed}]}))
    file.with_suffix(".bin").write_bytes(stored)
    return file, weights


def reference(weights: Weights, pixels: Tensor) -> Tensor:
    """The published network as TensorFlow computes it, on grey pixels (N, 1, 128, 128) in 0..255.

    `SAME` padding of a strided convolution lies at the right and at the bottom; three equal channels, their mean taken.
    """

    def convolved(x: Tensor, kernel: np.ndarray, stride: int, groups: int = 1) -> Tensor:
        weight = torch.from_numpy(kernel.astype(np.float32)).permute(3, 2, 0, 1)
        if kernel.shape[0] == 3:
            x = F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        return F.conv2d(x, weight, stride=stride, groups=groups)

    def vector(name: str) -> Tensor:
        return torch.from_numpy(weights[name].astype(np.float32)).view(-1, 1, 1)

    x = (pixels - (103.939 + 116.779 + 123.68) / 3).expand(-1, 3, -1, -1)
    x = F.relu(convolved(x, weights["conv1/convolution/merged_input"], 2) + vector("conv1_bn/batchnorm_1/sub"))
    for k, (_, stride) in enumerate(MOBILENET_UNITS, start=1):
        kernel = weights[f"conv_dw_{k}/depthwise_kernel"].transpose(0, 1, 3, 2)
        x = convolved(x, kernel, stride, groups=x.shape[1])
        x = F.relu(x * vector(f"conv_dw_{k}_bn/batchnorm_1/mul") + vector(f"conv_dw_{k}_bn/batchnorm_1/sub"))
        x = convolved(x, weights[f"conv_pw_{k}/convolution/merged_input"], 1)
        x = F.relu(x + vector(f"conv_pw_{k}_bn/batchnorm_1/sub"))
    return x.mean(dim=(2, 3))


def test_the_imported_backbone_computes_what_the_published_network_does(
    tmp_path: Path, write_stills: Callable[[Path, int, int], Path], faceres: tuple[Path, Weights]
) -> None:
    """But for half precision of the kernels, and for the border, where padding is no longer exactly the mean pixel."""
    file, weights = faceres
    stills = write_stills(tmp_path / "stills.npz", 21, 1)
    out = tmp_path / "new" / "faces.safetensors"
    assert run_here("import", "--backbone", str(file), "--faces", str(stills), "--out", str(out))[0] == 0
    network = MobileNetV1(1, width=32, side=128).eval()
    missing, unexpected = network.load_state_dict(load_file(out), strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    given = torch.rand((4, 1, 48, 48), generator=torch.Generator().manual_seed(1)) * 255
    settings = InputSettings()
    normalised = (given / 255 - settings.mean[0]) / settings.std[0]
    enlarged = F.interpolate(given, size=(128, 128), mode="bicubic", align_corners=False)
    with torch.inference_mode():
        expected, found = reference(weights, enlarged), network(normalised)
    assert found.shape == (4, 1024)
    assert (found - expected).abs().mean() < 0.01 * expected.abs().mean()


def test_the_backbone_that_ships_fits_the_recipe_it_is_made_for() -> None:
    """`make train-default` starts from it, and it computes finite numbers."""
    net = new_static_net(recipe("default"), 7, {"label": 1.0})
    load_backbone(net, ROOT / "model_store" / "backbones" / "faces.safetensors")
    with torch.inference_mode():
        features = net.eval().backbone(torch.zeros(1, 1, 48, 48))
    assert features.isfinite().all()
    assert features.max() > 0


def test_files_that_are_not_that_network_are_refused_in_one_line(
    tmp_path: Path, write_stills: Callable[[Path, int, int], Path], faceres: tuple[Path, Weights]
) -> None:
    """Another model, weights cut short, an output that exists, stills that are none: nothing is written."""
    file, _ = faceres
    stills = write_stills(tmp_path / "stills.npz", 21, 1)
    out = tmp_path / "faces.safetensors"
    content = json.loads(file.read_text())
    broken = tmp_path / "broken"
    broken.mkdir()
    for name, kept in (("short.json", -100), ("other.json", None)):
        (broken / name).with_suffix(".bin").write_bytes(file.with_suffix(".bin").read_bytes()[:kept])
    (broken / "short.json").write_text(json.dumps(content))
    for entry in content["weightsManifest"][0]["weights"]:
        entry["name"] = entry["name"].replace("conv_pw_3/", "conv_pw_three/")
    (broken / "other.json").write_text(json.dumps(content))
    for model, words in (
        (broken / "short.json", "no TensorFlow.js model"),
        (broken / "other.json", "no 'conv_pw_3/convolution/merged_input'"),
        (broken / "absent.json", "No such file"),
    ):
        status, _, err = run_here("import", "--backbone", str(model), "--faces", str(stills), "--out", str(out))
        assert status == 1
        assert words in err
        assert err.count("\n") == 1
    status, _, err = run_here("import", "--backbone", str(file), "--faces", str(file), "--out", str(out))
    assert (status, err.count("\n")) == (1, 1)
    assert not out.exists()
    assert run_here("import", "--backbone", str(file), "--out", str(out))[0] == 2
    out.write_text("kept")
    status, _, err = run_here("import", "--backbone", str(file), "--faces", str(stills), "--out", str(out))
    assert status == 1
    assert "already exists" in err
    assert out.read_text() == "kept"
