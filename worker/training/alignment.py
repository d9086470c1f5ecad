"""Measure the alignment of faces in a data set's crops, so that serving can crop faces in the same way.

    python -m worker.training.alignment --data ferplus_train.npz --detector-model face_detection_yunet_2023mar.onnx

Detectors are tuned to whole pictures, so every crop is enlarged and padded first.  The medians over the crops with a
detection go into the recipe (`worker.training.recipes.FER_ALIGNMENT`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from model_store.manifest import Alignment
from worker.crops import Image
from worker.training.stills import read_images

SCALE = 5  # from a 48-pixel crop to the 240 pixels that YuNet and the cascade find faces at
BORDER = 0.25  # of the scaled side, on every side

Values = npt.NDArray[np.float64]


def measure_alignment(images: Image, detector_model: Path) -> tuple[Alignment, dict[str, int]]:
    """Medians over face crops, (N, H, H) uint8 grey; and how many crops each detector answered on.

    Raises: RuntimeError if a detector finds no face at all.
    """
    side = images.shape[1] * SCALE
    border = round(side * BORDER)
    canvas = side + 2 * border
    yunet = cv2.FaceDetectorYN.create(str(detector_model), "", (canvas, canvas), score_threshold=0.8)
    cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"))
    landmarks: list[Values] = []
    boxes: list[Values] = []
    for image in images:
        large = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
        large = cv2.copyMakeBorder(large, border, border, border, border, cv2.BORDER_REPLICATE)
        _, faces = yunet.detect(cv2.cvtColor(large, cv2.COLOR_GRAY2BGR))
        if faces is not None and len(faces) == 1:
            landmarks.append((faces[0, 4:14].reshape(5, 2).astype(np.float64) - border) / side)
        found = cascade.detectMultiScale(large, scaleFactor=1.05, minNeighbors=4, minSize=(side // 3, side // 3))
        if len(found) == 1:
            boxes.append((np.asarray(found[0], np.float64) - [border, border, 0, 0]) / side)
    if not landmarks or not boxes:
        raise RuntimeError("a detector found no face in these images: are they face crops?")
    box = np.array(boxes)  # (N, 4): left, top, width, height as fractions of the crop's side
    points = symmetric(np.median(np.array(landmarks), axis=0))
    alignment = Alignment(
        landmarks=tuple((round(float(x), 4), round(float(y), 4)) for x, y in points),
        box_scale=round(float(np.median(1 / box[:, 2])), 3),
        box_shift_y=round(float(np.median((0.5 - box[:, 1] - box[:, 3] / 2) / box[:, 3])), 3),
    )
    return alignment, {"images": len(images), "yunet": len(landmarks), "cascade": len(boxes)}


def symmetric(landmarks: Values) -> Values:
    """The same (5, 2) template made symmetric about the crop's vertical middle, as faces are on average."""
    mirrored = landmarks[[1, 0, 2, 4, 3]] * [-1, 1] + [1, 0]
    return np.asarray((landmarks + mirrored) / 2)


def main() -> None:
    """Print the measured alignment as JSON."""
    parser = argparse.ArgumentParser(description="Measure how faces lie in the crops of a stills file.")
    parser.add_argument("--data", type=Path, required=True, help="stills .npz")
    parser.add_argument("--detector-model", type=Path, required=True, help="YuNet's ONNX file")
    parser.add_argument("--limit", type=int, default=4000, help="look at so many images, evenly spread")
    args = parser.parse_args()
    images = read_images(args.data)
    chosen = np.linspace(0, len(images) - 1, min(args.limit, len(images))).astype(int)
    alignment, counts = measure_alignment(images[chosen], args.detector_model)
    print(json.dumps({"alignment": alignment.model_dump(), "found": counts}))


if __name__ == "__main__":
    main()
