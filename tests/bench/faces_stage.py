"""The faces stage of two checkouts in turns: processor time a frame, and how steady their boxes are.

    python -m tests.bench.faces_stage BEFORE AFTER clip.mp4 [--rounds 5] [--steadiness]

BEFORE and AFTER are checkouts of this repository.  Each run is a process of its own, on one thread, that decodes the
clip first and is not timed for it.  Prints one JSON object.

Jitter: the distance of a box's centre from a parabola fitted to its track over nine frames, in widths, as a mean over
frames.  Overlap: intersection over union with what this checkout's detector finds in each frame by itself, as a mean.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

AROUND = 4  # frames before and after that the parabola is fitted to

# Run in a checkout's root: its own modules are measured, wherever they stood at that time.
RUN = """
import json, sys, time
import cv2, numpy as np, torch
try:
    from worker.core import malloc as memory
    from worker.core.records import DecodedFrame
except ImportError:
    from worker import memory
    from worker.records import DecodedFrame
memory.keep()
torch.set_num_threads(1); cv2.setNumThreads(1)
clip, rounds = sys.argv[1], int(sys.argv[2])
capture = cv2.VideoCapture(clip)
fps = capture.get(cv2.CAP_PROP_FPS)
frames = []
while True:
    there, bgr = capture.read()
    if not there:
        break
    frames.append(DecodedFrame(len(frames), len(frames) / fps, np.ascontiguousarray(bgr[..., ::-1])))
cpu = torch.device("cpu")
try:
    from worker.faces.following import Following
    from worker.inference.detectors import open_finder
    from worker.tracks.association import Tracker
    from worker.tracks.steadying import Steadying
    finder = open_finder(None, cpu)
    def stage():
        return Steadying(1).run(Tracker().run(Following(finder, 10, 1, None).run(frames)))
except ImportError:
    from worker.detectors import open_detector
    from worker.faces.keyframes import KeyframeDetection
    from worker.tracks import Tracker
    detector = open_detector("mien", cpu)
    def stage():
        return Tracker().run(KeyframeDetection(detector, 10, 1, None).run(frames))
list(stage())
spent, found = [], []
for _ in range(rounds):
    before = time.process_time()
    found = list(stage())
    spent.append((time.process_time() - before) * 1000 / len(frames))
rows = [[frame.faces.boxes[i].tolist() for i in np.argsort(frame.track_ids)] for frame in found]
ids = [sorted(frame.track_ids) for frame in found]
print(json.dumps({"ms": spent, "boxes": rows, "ids": ids}))
"""


def run(checkout: Path, clip: Path, rounds: int) -> dict[str, Any]:
    """What `RUN` prints in the checkout."""
    command = [sys.executable, "-c", RUN, str(clip.resolve()), str(rounds)]
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve())}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def jitter(result: dict[str, Any]) -> float | None:
    """See above; None where no track has nine frames in a row."""
    distances = []
    for track in {i for ids in result["ids"] for i in ids}:
        boxes = [
            boxes[ids.index(track)] if track in ids else None
            for boxes, ids in zip(result["boxes"], result["ids"], strict=True)
        ]
        for k in range(AROUND, len(boxes) - AROUND):
            window = [box for box in boxes[k - AROUND : k + AROUND + 1] if box is not None]
            if len(window) == 2 * AROUND + 1:
                distances.append(_off_parabola(np.array(window)))
    return float(np.mean(distances)) if distances else None


def _off_parabola(window: npt.NDArray[np.float64]) -> float:
    centres = (window[:, :2] + window[:, 2:]) / 2
    at = np.arange(-AROUND, AROUND + 1)
    fitted = [np.polyval(np.polyfit(at, centres[:, axis], 2), 0) for axis in (0, 1)]
    return float(np.hypot(*(centres[AROUND] - fitted)) / (window[AROUND, 2] - window[AROUND, 0]))


def overlap(result: dict[str, Any], clip: Path) -> float | None:
    """See above; faces that are not found in a frame by itself do not count."""
    import cv2

    from worker.core.boxes import iou_matrix
    from worker.inference.detectors import open_finder

    finder = open_finder(None, "cpu")
    capture = cv2.VideoCapture(str(clip))
    overlaps: list[float] = []
    for boxes in result["boxes"]:
        there, bgr = capture.read()
        if not there:
            break
        (fresh,) = finder.detect([np.ascontiguousarray(bgr[..., ::-1], np.uint8)], None)
        shared = iou_matrix(np.array(boxes, np.float32).reshape(-1, 4), fresh.boxes)
        overlaps += [float(value) for value in shared.max(axis=1, initial=0.0) if value > 0]
    return float(np.mean(overlaps)) if overlaps else None


def main() -> None:
    """Measure both and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steadiness", action="store_true", help="jitter and overlap, too")
    given = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {"before": [], "after": []}
    for _ in range(given.rounds):
        for name, results in runs.items():
            results.append(run(getattr(given, name), given.clip, 3))
    ms = {name: statistics.median(min(each["ms"]) for each in results) for name, results in runs.items()}
    report: dict[str, Any] = {"clip": given.clip.name, "ms_a_frame": ms, "ratio": ms["after"] / ms["before"]}
    if given.steadiness:
        for name, results in runs.items():
            report[name] = {"jitter": jitter(results[-1]), "overlap": overlap(results[-1], given.clip)}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
