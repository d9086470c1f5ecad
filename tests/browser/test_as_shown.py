"""Times and pictures of the decoder beside those of Chromium: the same media time, the same way up, the same size."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from tests.browser.containers import CONTAINERS, COUNT, STEP, written
from tests.worker.decode.scenes import difference, images, read, scene, write
from worker.core.records import DecodedFrame, Image

pytestmark = pytest.mark.browser

MS = 1e-3
OPEN = """
  const video = document.createElement("video");
  video.muted = true;
  video.src = url;
  document.body.append(video);
  await new Promise((done, fail) => {
    video.onloadeddata = done;
    video.onerror = () => fail(new Error(video.error.message));
  });
  let mediaTime = -1;
  const note = (now, about) => {
    mediaTime = about.mediaTime;
    video.requestVideoFrameCallback(note);
  };
  video.requestVideoFrameCallback(note);
  const shows = async (at, wanted) => {
    video.currentTime = at;
    for (let tries = 0; tries < 200 && (video.seeking || Math.abs(mediaTime - wanted) > 0.001); tries += 1) {
      await new Promise((done) => setTimeout(done, 10));
    }
  };
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
"""
# Seeks to each time, and says which time the picture on the screen then has, and how bright it is.
SEEK = (
    "async ([url, places]) => {"
    + OPEN
    + """
  canvas.width = canvas.height = 1;
  const shown = [];
  for (const [at, wanted] of places) {
    await shows(at, wanted);
    context.drawImage(video, 0, 0, 1, 1);
    shown.push([mediaTime, context.getImageData(0, 0, 1, 1).data[1]]);
  }
  video.remove();
  return shown;
}"""
)
# The second picture as it is shown: its size, and its pixels.
LOOK = (
    "async ([url, at, wanted]) => {"
    + OPEN
    + """
  await shows(at, wanted);
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  context.drawImage(video, 0, 0, canvas.width, canvas.height);
  video.remove();
  return canvas.toDataURL("image/png");
}"""
)


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_context()
    page = opened.new_page()
    page.set_content("<body></body>")
    yield page
    opened.close()


def url(path: Path) -> str:
    media = {".webm": "video/webm", ".mkv": "video/x-matroska"}.get(path.suffix, "video/mp4")
    return f"data:{media};base64,{base64.b64encode(path.read_bytes()).decode()}"


def compare_times(page: Page, path: Path) -> None:
    """At the time of every record, Chromium shows the same picture and reports the same time."""
    frames: list[DecodedFrame] = read(path)
    assert len(frames) == COUNT
    times = [frame.timestamp_s for frame in frames]
    inside = [time + min(after - time, 0.04) / 2 for time, after in zip(times, [*times[1:], math.inf], strict=True)]
    shown = page.evaluate(SEEK, [url(path), list(zip(inside, times, strict=True))])
    for frame, image, (media_s, grey) in zip(frames, images(frames), shown, strict=True):
        assert media_s == pytest.approx(frame.timestamp_s, abs=MS), json.dumps(shown)
        assert grey == pytest.approx(float(image.mean()), abs=STEP / 2)


@pytest.mark.parametrize("name", CONTAINERS)
def test_the_time_is_the_player_s(page: Page, tmp_path: Path, name: str) -> None:
    """`timestamp_s` is the media time that a browser reports for the frame, within a millisecond."""
    compare_times(page, written(tmp_path, name))


def shown_by_chromium(page: Page, path: Path) -> Image:
    data = base64.b64decode(page.evaluate(LOOK, [url(path), 0.06, 0.04]).partition(",")[2])
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


ONE = 1 << 16
HALF = round(math.sqrt(0.5) * ONE)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize(
    "matrix",
    [
        (ONE, 0, 0, ONE),
        (0, ONE, -ONE, 0),
        (-ONE, 0, 0, -ONE),
        (0, -ONE, ONE, 0),
        (-ONE, 0, 0, ONE),
        (ONE, 0, 0, -ONE),
        (0, ONE, ONE, 0),
        (0, -ONE, -ONE, 0),
        (HALF, HALF, -HALF, HALF),
    ],
    ids=["upright", "90", "180", "270", "hflip", "vflip", "transpose", "antitranspose", "45"],
)
def test_the_picture_is_the_player_s(
    page: Page, tmp_path: Path, matrix: tuple[int, int, int, int], suffix: str
) -> None:
    """Turns and mirrors are those that a browser shows."""
    a, b, c, d = matrix
    entries = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    path = write(tmp_path / f"a.{suffix}", scene(4), prepare=lambda stream: stream.set_display_matrix(entries))
    found = images(read(path))[1]
    assert difference(found, shown_by_chromium(page, path)) < 6


@pytest.mark.parametrize("aspect", ["64/45", "4/3", "32/27", "2/1", "1/2"])
def test_pixels_are_the_player_s(page: Page, tmp_path: Path, aspect: str) -> None:
    """Pictures whose pixels are not square have the size that a browser shows."""

    def prepare(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)

    path = write(tmp_path / "a.mp4", scene(4), prepare=prepare)
    found = images(read(path))[1]
    assert difference(found, shown_by_chromium(page, path)) < 8
