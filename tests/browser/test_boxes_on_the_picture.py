"""Boxes belong to the picture on the screen: in every container, after seeks and while it plays."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page

from app.contract.frames import Face, Frame
from tests.browser.containers import CONTAINERS, STEP, written
from tests.browser.stored import store
from tests.manual_worker import LABELS
from tests.worker.decode.scenes import images, read

if TYPE_CHECKING:
    from tests.browser.conftest import OpenPage
    from tests.service import Api

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

QUICK = {"late.mp4", "no_edit_list.mp4"}  # one of each kind; the others are `long`
SIZE = (128, 96)
SIDE, LEFT, APART = 30, 5, 4  # of the box that says which record is drawn: its place is the record's position
MOMENTS = 12

# The brightness of the picture on the screen, and where the left line of the box is that is drawn on it, in pixels of
# the picture; -1 where none is.
SEEN = """() => {
  const video = document.querySelector("#screen video");
  const one = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  one.drawImage(video, 0, 0, 1, 1);
  const overlay = document.querySelector("#overlay");
  const copy = overlay.cloneNode();
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(overlay, 0, 0);
  const row = Math.round(copy.height * 0.45);
  const { data } = context.getImageData(0, row, copy.width, 1);
  let left = 0;
  while (left < copy.width && data[4 * left + 3] < 255) left += 1;
  const grey = one.getImageData(0, 0, 1, 1).data[1];
  return [grey, left < copy.width ? left / copy.width * 128 : -1, video.seeking];
}"""
# Drawing a box takes as long as on a busy machine, so that other pictures come to the screen meanwhile.
SLOWLY = """() => {
  const of = CanvasRenderingContext2D.prototype;
  const plain = of.strokeRect;
  of.strokeRect = function (...given) {
    if (this.canvas.id === "overlay") for (const until = performance.now() + 25; performance.now() < until; );
    return plain.apply(this, given);
  };
}"""
RECORD = """async () => {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: 128, height: 96 });
  document.body.append(canvas);
  const context = canvas.getContext("2d");
  const recorder = new MediaRecorder(canvas.captureStream(30), { mimeType: "video/webm;codecs=vp8" });
  const pieces = [];
  recorder.ondataavailable = (event) => pieces.push(event.data);
  const stopped = new Promise((done) => (recorder.onstop = done));
  recorder.start(200);
  for (let step = 0; step < 24; step += 1) {
    const grey = 40 + 8 * step;
    context.fillStyle = `rgb(${grey}, ${grey}, ${grey})`;
    context.fillRect(0, 0, 128, 96);
    await new Promise((done) => setTimeout(done, step % 5 ? 50 : 150));
  }
  recorder.stop();
  await stopped;
  canvas.remove();
  const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
  return btoa(String.fromCharCode(...bytes));
}"""


def records(times: list[float]) -> list[Frame]:
    """A record per picture, identified by the position of its box."""
    scores = (0.04, 0.04, 0.04, 0.04, 0.76, 0.04, 0.04)
    assert len(scores) == len(LABELS)
    return [
        Frame(n, time, (Face(0, (LEFT + APART * n % 90, 30.0, SIDE, SIDE), 0.9, scores, (scores,) * 3),))
        for n, time in enumerate(times)
    ]


def assert_in_step(page: Page, greys: list[float]) -> None:
    """The drawn box is that of the shown picture, by its record and not by a clock."""
    page.wait_for_function(f"() => !({SEEN})()[2]")
    page.wait_for_timeout(120)
    grey, left, _ = page.evaluate(SEEN)
    drawn = [n for n in range(len(greys)) if abs(LEFT + APART * n % 90 - left) < APART / 2]
    shown = [n for n, each in enumerate(greys) if abs(each - grey) < STEP / 2]
    assert set(drawn) & set(shown), (grey, left, drawn, shown)


def check(open_page: OpenPage, api: Api, path: Path) -> None:
    """Open the file beside its records, go to moments of it in no order, and play and stop."""
    decoded: list[Any] = read(path)
    greys = [float(image.mean()) for image in images(decoded)]
    times = [frame.timestamp_s for frame in decoded]
    job_id = store(api.service.redis_url, records(times), SIZE, path.read_bytes())
    visit = open_page()
    page = visit.page
    visit.open(job_id)
    page.evaluate(SLOWLY)
    page.set_input_files("#again-input", str(path))
    page.wait_for_function("() => document.querySelector('#screen video')?.readyState >= 2")
    visit.labelled()
    whole = max(float(page.get_attribute("#lanes", "aria-valuemax") or 0), times[-1])
    for moment in range(MOMENTS):
        position = moment * 7 % len(times)
        after = times[position + 1] if position + 1 < len(times) else times[position] + 0.04
        visit.click_at(min((times[position] + after) / 2, whole - 0.001))
        assert_in_step(page, greys)
    page.focus("#lanes")
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        assert_in_step(page, greys)
    for _ in range(3):
        page.keyboard.press(" ")
        page.wait_for_timeout(250)
        page.evaluate("document.querySelector('#screen video').pause()")
        assert_in_step(page, greys)
    api.http.delete(f"/v1/jobs/{job_id}")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.long) for n in CONTAINERS])
def test_boxes_are_on_the_picture(open_page: OpenPage, api: Api, tmp_path: Path, name: str) -> None:
    """Late video, pictures out of order, no edit list, fragments, varying rates."""
    check(open_page, api, written(tmp_path, name))


def test_boxes_are_on_a_recorded_call(open_page: OpenPage, api: Api, tmp_path: Path) -> None:
    """A browser's recording: no duration, no index, a variable rate, no colours in its bitstream."""
    path = tmp_path / "call.webm"
    path.write_bytes(base64.b64decode(open_page().page.evaluate(RECORD)))
    check(open_page, api, path)
