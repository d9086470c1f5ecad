"""From which size and sharpness on a face keeps its label: clips whose faces are made smaller or blurred.

    python -m tests.bench.trust clip.mp4 ...

Of every tenth frame the largest face is labelled as it is, and again after the picture was made smaller or blurred,
with the same landmarks: the share that keeps its label, and the crops' sharpness.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from app.contract.options import JobOptions
from worker.core.records import CroppedFace, CroppedFrame
from worker.crops import crop_aligned, sharpness
from worker.decode import DecodeLimits
from worker.ensemble.stream import ClipStream
from worker.inference import serving
from worker.inference.detectors import open_finder
from worker.inference.specs import crop_spec
from worker.settings import WorkerSettings, decode_limits

EVERY = 10
WIDTHS = (64, 48, 32, 24, 20, 16, 12, 8)  # px of the face's box
BLURS = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08)  # standard deviation, in widths
Picture = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    settings = WorkerSettings()
    loaded = serving.load(settings)
    faces = [face for clip in parser.parse_args().clips for face in found(loaded, clip, decode_limits(settings))]
    plain, sharp = labels(loaded, [(picture, points) for picture, points, _ in faces])
    print(f"{len(faces)} faces; as they are: sharpness {spread(sharp)}")
    for name, values, change in (("width", WIDTHS, smaller), ("blur", BLURS, blurred)):
        for value in values:
            now, sharp = labels(loaded, [change(*face, value) for face in faces])
            same = np.mean([a == b for a, b in zip(plain, now, strict=True)])
            print(f"{name} {value:5}: {100 * same:5.1f} % keep their label, sharpness {spread(sharp)}")


def spread(values: list[float]) -> str:
    """10th percentile, median, 90th."""
    return " ".join(f"{value:.2f}" for value in np.quantile(values, (0.1, 0.5, 0.9)))


def found(loaded: serving.Serving, path: Path, limits: DecodeLimits) -> Iterator[tuple[Picture, Points, float]]:
    """Pictures with the landmarks and the width of their largest face."""
    finder = open_finder(None, "cpu")
    source = loaded.open_source(path, serving.reading_of(path), JobOptions(), limits)
    for number, frame in enumerate(source.frames()):
        if number % EVERY == 0 and frame.image is not None:
            seen = finder.detect([frame.image], None)[0]
            if len(seen):
                best = int(seen.widths.argmax())
                yield frame.image, seen.landmarks[best], float(seen.widths[best])
    source.close()


def smaller(picture: Picture, points: Points, width: float, wanted: float) -> tuple[Picture, Points]:
    """The face that many pixels wide, at most as wide as it is."""
    scale = min(wanted / width, 1)
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    across, down = small.shape[1] / picture.shape[1], small.shape[0] / picture.shape[0]
    return np.asarray(small, np.uint8), np.asarray(points * (across, down), np.float32)


def blurred(picture: Picture, points: Points, width: float, share: float) -> tuple[Picture, Points]:
    """Blurred by a Gaussian."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), share * width), np.uint8), points


def labels(loaded: serving.Serving, faces: list[tuple[Picture, Points]]) -> tuple[list[int], list[float]]:
    """The label of each face by itself, and the sharpness of its crop."""
    spec = crop_spec(loaded.manifest.input)
    crops = [crop_aligned(picture, points, spec) for picture, points in faces]
    frames = (
        CroppedFrame(i, float(i), (CroppedFace(i, (0, 0, 1, 1), 1.0, crop),), (i - 1,)) for i, crop in enumerate(crops)
    )
    engine = loaded.pipeline.engine
    found = [int(frame.fused[0].argmax()) for frame in ClipStream(engine, engine.member_names).run(frames)]
    return found, [sharpness(crop) for crop in crops]


if __name__ == "__main__":
    main()
