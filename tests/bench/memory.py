"""Memory: a long video must need no more of it than a short one.

    python tests/bench/memory.py [--minutes 1 30] [--bundle default] [--out FILE]

Labels a clip with one face (640x360, 30 frames a second) of each length with `python -m worker label`, and prints one
JSON object: the most memory that the command and its children held at once (sum of their resident sets, sampled every
0.2 s), its frames a second, and the ratio of the last peak to the first.  Exits 1 above 1.1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from worker.demo.clip import make_clip

FPS = 30
PERIOD_S = 0.2
WORST_RATIO = 1.1
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 30])
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        runs = [measure(Path(name), minutes, arguments.bundle) for minutes in arguments.minutes]
    ratio = runs[-1]["peak_rss_bytes"] / runs[0]["peak_rss_bytes"]
    figures = json.dumps({"bundle": arguments.bundle, "runs": runs, "ratio": round(ratio, 3)}, indent=2)
    print(figures)
    if arguments.out:
        arguments.out.write_text(figures + "\n")
    return int(ratio > WORST_RATIO)


def measure(folder: Path, minutes: float, bundle: str) -> dict[str, Any]:
    """Label one clip of that length."""
    frames = round(minutes * 60 * FPS)
    video = long_clip(folder, frames)
    command = [sys.executable, "-m", "worker", "label", str(video), "--format", "ndjson", "--out", str(folder / "out")]
    started = time.perf_counter()
    with subprocess.Popen(command, env=os.environ | {"MIEN_BUNDLE": bundle}, stderr=subprocess.DEVNULL) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(resident_bytes(pid) for pid in family(process.pid)))
            time.sleep(PERIOD_S)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exited with {process.returncode}")
    with (folder / "out" / f"{video.stem}.ndjson").open() as records:
        labelled = sum(1 for _ in records)
    if labelled != frames:
        raise SystemExit(f"{labelled} records of {frames} frames")
    return {"minutes": minutes, "frames": frames, "fps": round(frames / seconds, 1), "peak_rss_bytes": peak}


def long_clip(folder: Path, frames: int) -> Path:
    """The demo's clip over and over, `frames` of it."""
    source = cv2.VideoCapture(str(make_clip(folder / "short.mp4")))
    pictures = []
    while (read := source.read())[0]:
        picture = np.asarray(read[1], np.uint8)
        pictures.append(av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format="yuv420p"))
    source.release()
    path = folder / f"{frames}.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height = pictures[0].width, pictures[0].height
        stream.bit_rate = 2_000_000
        for index in range(frames):
            frame = pictures[index % len(pictures)]
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def family(pid: int) -> list[int]:
    """The process and all that it started."""
    try:  # a child belongs to the thread that started it
        started = [
            int(child) for of in Path(f"/proc/{pid}/task").glob("*/children") for child in of.read_text().split()
        ]
    except OSError:  # it has ended
        return []
    return [pid, *(descendant for child in started for descendant in family(child))]


def resident_bytes(pid: int) -> int:
    """Resident set of a process, bytes; 0 once it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0


if __name__ == "__main__":
    sys.exit(main())
