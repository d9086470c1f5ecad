"""A GPU in at most eight minutes: its tests, the ensemble, and the pipeline on frames from memory.

    python -m tests.bench.gpu [--out FOLDER] [--golden FOLDER] [--dry-run]

Writes FOLDER/GPU_torchVERSION_cudaVERSION.json and exits 1 if a test or a run fails.  It needs no network, no Redis and
no PyAV, so it also runs on a lent machine that has PyTorch, OpenCV, ONNX Runtime and scikit-image; what is missing
there (`pip download` of pydantic, pydantic-settings, structlog, typer, fastapi, redis and rq) travels as wheels.

--golden: the bundle of `tests/bench/golden_bundle.py`; made if absent.  --dry-run: a few seconds of each part on a CPU,
to see that the script works; its figures are not written.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import torch

from worker.core.picture import Colours, Picture
from worker.core.records import DecodedFrame, VideoInfo
from worker.demo.clip import make_clip
from worker.inference import serving
from worker.inference.pipeline import LabelOptions
from worker.settings import WorkerSettings

RESULTS = Path(__file__).resolve().parent / "results"
SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
STREAMS = 4
FRAMES, CROPS = 3000, 1024  # frames of a run of the pipeline, crops of the ensemble's clip
HELD = 150  # different frames in memory
BT709 = Colours(1, full_range=False)
LEAST = {"golden bf16 crops/s": 10_000, "720p frames/s": 1_500}


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--golden", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    if not given.dry_run and not torch.cuda.is_available():
        raise SystemExit("no CUDA device; --dry-run shows on a CPU that the script works")
    with tempfile.TemporaryDirectory() as name:
        golden = given.golden or _golden(Path(name))
        found: dict[str, Any] = {"device": _device(), "torch": torch.__version__, "cuda": torch.version.cuda}
        for part, run in (("tests", _tests), ("ensemble", _ensemble), ("pipeline", _pipeline)):
            started = time.perf_counter()
            found[part] = run(golden, Path(name), dry=given.dry_run)
            found[f"{part}_s"] = round(time.perf_counter() - started, 1)
            print(part, json.dumps(found[part]), flush=True)  # a machine's time may end before the script
    failed = found["tests"]["status"] != 0 or any("error" in cell for cell in found["ensemble"])
    found["bars"] = None if given.dry_run else _bars(found)
    print(json.dumps(found, indent=2))
    if not given.dry_run:
        device = re.sub(r"[^a-z0-9]+", "-", found["device"].lower()).strip("-")
        version = torch.__version__.split("+", maxsplit=1)[0]
        given.out.mkdir(parents=True, exist_ok=True)
        file = given.out / f"{device}_torch{version}_cuda{torch.version.cuda}_gpu.json"
        file.write_text(json.dumps(found, indent=2) + "\n")
    return int(failed)


def _device() -> str:
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"


def _golden(folder: Path) -> Path:
    script = Path(__file__).with_name("golden_bundle.py")
    subprocess.run([sys.executable, str(script), str(folder / "golden")], check=True, stdout=subprocess.DEVNULL)
    return folder / "golden"


def _tests(golden: Path, folder: Path, *, dry: bool) -> dict[str, Any]:
    """The tests marked `gpu`: pytest's status and its last line."""
    chosen = ["--collect-only"] if dry else ["-x"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", *chosen, "tests/worker"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"status": run.returncode, "last": (run.stdout.strip().splitlines() or [run.stderr[-500:]])[-1]}


def _ensemble(golden: Path, folder: Path, *, dry: bool) -> list[dict[str, Any]]:
    """`worker bench` of both bundles in every precision, with CUDA graphs and without."""
    cells = []
    for bundle in (str(golden), "default"):
        for precision in ("fp32",) if dry else ("bf16", "fp16", "fp32"):
            for graphs in ("false",) if dry else ("true", "false"):
                bench = ["bench", "--bundle", bundle, "--precision", precision, "--crops", str(18 if dry else CROPS)]
                run = subprocess.run(
                    [sys.executable, "-m", "worker", *bench, "--json"],
                    env=os.environ | {"MIEN_CUDA_GRAPHS": graphs},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                cell = {"bundle": "golden" if bundle != "default" else bundle, "precision": precision, "graphs": graphs}
                if run.returncode:
                    cells.append(cell | {"error": run.stderr.strip()[-500:]})
                else:
                    cells.append(json.loads(run.stdout) | cell)
    return cells


def _pipeline(golden: Path, folder: Path, *, dry: bool) -> dict[str, Any]:
    """Frames a second of the pipeline, and of its faces stage alone: one stream, and several at once."""
    clip = make_clip(folder / "clip.mp4")
    loaded = serving.load(WorkerSettings(precision="auto"), jobs=STREAMS)
    frames = 60 if dry else FRAMES
    found = {}
    try:
        for name, size in SIZES.items():
            source = _InMemory(clip, size, frames)
            _frames_per_s(loaded, [_InMemory(clip, size, min(frames, HELD))])
            found[name] = {
                "faces_fps": round(_faces_per_s(loaded, source), 1),
                "fps": round(_frames_per_s(loaded, [source]), 1),
                f"fps_of_{STREAMS}_streams": round(
                    _frames_per_s(loaded, [_InMemory(clip, size, frames) for _ in range(STREAMS)]), 1
                ),
            }
    finally:
        loaded.close()
    return found


class _InMemory:
    """A source whose frames are the clip's, enlarged, in planes as a decoder gives them; so decoding costs nothing."""

    def __init__(self, clip: Path, size: tuple[int, int], count: int) -> None:
        self.info = VideoInfo(*size, 25.0, count, count / 25)
        self.decoded, self.warnings = 0, list[str]()
        self._count, self._pictures = count, list[Picture]()
        capture = cv2.VideoCapture(str(clip))
        while len(self._pictures) < min(HELD, count):
            there, bgr = capture.read()
            if not there:
                break
            planes = cv2.cvtColor(cv2.resize(bgr, size), cv2.COLOR_BGR2YUV_I420)
            self._pictures.append(Picture.in_samples(planes.ravel(), size[1], size[0], BT709))  # type: ignore[arg-type]

    def frames(self) -> Iterator[DecodedFrame]:
        self.decoded = 0
        for index in range(self._count):
            self.decoded += 1
            yield DecodedFrame(index, index / 25, self._pictures[index % len(self._pictures)])

    def close(self) -> None:
        """Nothing to release."""


def _faces_per_s(loaded: serving.Serving, source: _InMemory) -> float:
    started = time.perf_counter()
    count = sum(1 for _ in loaded.pipeline.crop(source.frames(), LabelOptions()))
    return count / (time.perf_counter() - started)


def _frames_per_s(loaded: serving.Serving, sources: list[_InMemory]) -> float:
    """Of all sources together, each in a thread of its own.  Raises: RuntimeError if a frame has no face."""
    labelled: list[int] = []

    def label(source: _InMemory) -> None:
        labelled.append(sum(bool(frame.frame.faces) for frame in loaded.pipeline.label(source, LabelOptions())))

    threads = [threading.Thread(target=label, args=(source,)) for source in sources]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    if sum(labelled) != sum(source.decoded for source in sources):
        raise RuntimeError(f"{sum(labelled)} of {sum(source.decoded for source in sources)} frames have a face")
    return sum(labelled) / elapsed


def _bars(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The measured figures beside the required ones."""
    crops = max(
        c.get("ensemble_fps", 0) for c in found["ensemble"] if c["bundle"] == "golden" and c["precision"] == "bf16"
    )
    measured = {"golden bf16 crops/s": crops, "720p frames/s": found["pipeline"]["720p"]["fps"]}
    return {name: {"measured": measured[name], "least": least} for name, least in LEAST.items()}


if __name__ == "__main__":
    sys.exit(main())
