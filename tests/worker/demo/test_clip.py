"""The demo's own video."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from worker.decode import DecodeLimits
from worker.decode.video import VideoSource
from worker.demo.clip import FPS, HEIGHT, SECONDS, WIDTH, make_clip
from worker.inference.detectors import DEFAULT, open_detector


def test_clip_shows_a_moving_face_of_useful_size(tmp_path: Path) -> None:
    """Every frame is there, and the detector that needs no download sees one face that moves."""
    source = VideoSource(make_clip(tmp_path / "clip.mp4"), DecodeLimits(10_000, 10_000_000))
    frames = [frame.image for frame in source.frames()]
    assert len(frames) == FPS * SECONDS
    assert (source.info.width, source.info.height) == (WIDTH, HEIGHT)
    shown = [image for image in frames[::FPS] if image is not None]
    assert len(shown) == SECONDS
    detector = open_detector(DEFAULT, "cpu")
    boxes = [found.boxes for found in detector.detect(shown, None)]
    largest = np.array([max(found, key=lambda box: float(box[3] - box[1])) for found in boxes])
    assert np.all(largest[:, 3] - largest[:, 1] >= 110)
    assert np.ptp(largest[:, 0]) > 10


def test_clip_is_in_colour_as_the_portrait_is(tmp_path: Path) -> None:
    """Red and blue are not swapped: the suit is orange."""
    path = make_clip(tmp_path / "clip.mp4")
    ok, bgr = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).read()
    assert ok
    suit = bgr[-40:, WIDTH // 2 - 40 : WIDTH // 2 + 40].reshape(-1, 3).mean(axis=0)
    assert suit[2] > suit[0]
