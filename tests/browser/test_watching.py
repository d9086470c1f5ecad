"""A dropped video is labelled before one's eyes, and its results are in step with its picture."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from app.contract.colours import LABEL_COLOURS, rgb
from tests.browser.conftest import FRAMES, MARK

if TYPE_CHECKING:
    from tests.browser.conftest import OpenPage, Visit
    from tests.service import Api

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

VIDEOS = Path(__file__).resolve().parents[3] / "shared" / "videos"
SOON_S = 5
NEAR_PX = 4  # a box's line is about so wide

# Colours at places of the overlay, given as shares of its width and height; looked for within some pixels.
LINES = """([places, near]) => {
  const canvas = document.querySelector("#overlay").cloneNode();
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(document.querySelector("#overlay"), 0, 0);
  return places.map(([x, y]) => {
    const [left, top] = [Math.round(x * canvas.width) - near, Math.round(y * canvas.height) - near];
    const { data } = context.getImageData(left, top, 2 * near + 1, 2 * near + 1);
    const found = [];
    for (let at = 0; at < data.length; at += 4) {
      if (data[at + 3] === 255) found.push([...data.subarray(at, at + 3)].join());
    }
    return [...new Set(found)];
  });
}"""


def colours_at(visit: Visit, places: list[tuple[float, float]]) -> list[set[tuple[int, ...]]]:
    """Opaque colours of the overlay near each place."""
    found: list[list[str]] = visit.page.evaluate(LINES, [places, NEAR_PX])
    return [{tuple(int(part) for part in colour.split(",")) for colour in colours} for colours in found]


def edges(box: list[float], size: tuple[int, int]) -> list[tuple[float, float]]:
    """Places on the four lines of a box, as shares of the picture; low on the sides, where no tag is."""
    x, y, width, height = box
    across, down = size
    return [
        (x / across, (y + height * 0.6) / down),
        ((x + width) / across, (y + height * 0.6) / down),
        ((x + width * 0.9) / across, y / down),
        ((x + width * 0.5) / across, (y + height) / down),
    ]


def assert_box(visit: Visit, record: dict[str, Any], size: tuple[int, int]) -> None:
    """The overlay soon has this record's box, in its label's colour, and nothing inside of it."""
    (face,) = record["faces"]
    colour = rgb(LABEL_COLOURS[face["label"]])
    x, y, width, height = face["bbox"]
    inside = ((x + width / 2) / size[0], (y + height / 2) / size[1])
    deadline = time.monotonic() + SOON_S
    while True:
        *lines, middle = colours_at(visit, [*edges(face["bbox"], size), inside])
        if not middle and all(colour in found for found in lines):
            return
        assert time.monotonic() < deadline, (face["bbox"], lines, middle)
        visit.page.wait_for_timeout(50)


def test_dropped_video_is_labelled_and_boxes_are_in_step(open_page: OpenPage, api: Api, film: bytes) -> None:
    """After the drop the job's progress is seen; then, at three times, the picture, the box and the record are one."""
    visit = open_page()
    visit.page.evaluate(
        """() => {
          window.seen = [];
          const line = document.querySelector("#job-line");
          new MutationObserver(() => window.seen.push(line.textContent)).observe(line, { childList: true });
        }"""
    )
    visit.drop(film, "film.webm", "video/webm")
    job_id = visit.labelled()
    seen = visit.page.evaluate("window.seen")
    assert seen[-1].startswith(f"Done · {FRAMES} frames")
    assert {"Opening …"} < set(seen)
    assert visit.page.text_content("#job-name") == "film.webm"
    assert "not what a person feels" in (visit.page.text_content("#job-body .sentence") or "")
    frames = api.frames(job_id)
    for index in (5, FRAMES // 2, FRAMES - 3):
        visit.click_at((frames[index]["timestamp_s"] + frames[index + 1]["timestamp_s"]) / 2)
        visit.shown_frame(index)
        assert_box(visit, frames[index], (480, 360))


def test_boxes_stay_in_step_while_it_plays(open_page: OpenPage, api: Api, film: bytes) -> None:
    """At double speed, whenever a frame comes to the screen, the values shown are that frame's."""
    visit = open_page()
    visit.drop(film, "film.webm", "video/webm")
    visit.labelled()
    visit.page.select_option("#rate", "2")
    seen = visit.page.evaluate(
        f"""async () => {{
          const video = document.querySelector("#screen video");
          const seen = [];
          const play = document.querySelector("#play");
          // An animation frame runs after all that was told of the new picture, in the same turn.
          const next = () => new Promise((resolve) => {{
            video.requestVideoFrameCallback((_, picture) => requestAnimationFrame(() => resolve(picture.mediaTime)));
            video.addEventListener("ended", () => resolve(null), {{once: true}});
          }});
          play.click();
          while (seen.length < 8) {{
            const time = await next();
            if (time === null) play.click(); // a busy machine shows few frames of a short film: once more
            else seen.push([time, Number(document.querySelector("#now-frame").textContent.slice(6)), {MARK}]);
          }}
          play.click();
          return seen;
        }}"""
    )
    assert len({shown for _, shown, _ in seen}) > 2
    times = [frame["timestamp_s"] for frame in api.frames(visit.job_id)]
    assert [int(np.argmin(np.abs(np.subtract(times, time)))) for time, _, _ in seen] == [shown for _, shown, _ in seen]
    # On a busy machine a later picture may be there already when this one is read, but never an earlier one.
    assert all(round(mark) >= shown for _, shown, mark in seen), seen


def test_members_can_be_compared(open_page: OpenPage, api: Api, labelled: dict[str, Any]) -> None:
    """The switch shows each member's own values and label, as the API has them; the table has all side by side."""
    visit = open_page()
    visit.open(labelled["id"])
    visit.labelled()
    record = api.frames(labelled["id"], members="true")[0]
    (face,) = record["faces"]
    rows = visit.page.locator("#values-table tbody tr")
    for row, label in enumerate(labelled["labels"]):
        cells = rows.nth(row).locator("td:not(.bar-cell)").all_text_contents()
        values = [face["scores"], *face["members"].values()]
        assert cells == [f"{round(100 * value[label] + 1e-9)} %" for value in values]
    pictures = set()
    for choice, scores in {
        "Together": face["scores"],
        "CNN": face["members"]["cnn"],
        "CNN-GRU": face["members"]["cnn_rnn"],
    }.items():
        visit.page.get_by_label(choice, exact=True).check(force=True)
        best = max(scores, key=scores.get)
        spoken = visit.page.get_attribute("#lanes", "aria-valuetext") or ""
        assert spoken.endswith(f"Face 0: {best} {round(100 * scores[best] + 1e-9)} %")
        visit.page.wait_for_timeout(100)
        pictures.add(visit.page.evaluate("document.querySelector('.lane-canvas').toDataURL()"))
    assert len(pictures) == 3


def test_hovering_shows_all_values(open_page: OpenPage, api: Api, labelled: dict[str, Any]) -> None:
    """Over a lane the tooltip shows all seven values of the frame; elsewhere there is none."""
    visit = open_page()
    visit.open(labelled["id"])
    visit.labelled()
    frames = api.frames(labelled["id"])
    canvas = visit.page.locator(".lane-canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    middle_s = float(visit.page.get_attribute("#lanes", "aria-valuemax") or 0) / 2
    record = [frame for frame in frames if frame["timestamp_s"] <= middle_s][-1]
    shown = dict(zip(labelled["labels"], visit.page.locator("#tooltip dd").all_text_contents(), strict=True))
    assert shown == {label: f"{round(100 * score + 1e-9)} %" for label, score in record["faces"][0]["scores"].items()}
    visit.page.mouse.move(2, 2)
    assert visit.page.locator("#tooltip").is_hidden()


def test_keyboard_is_enough(open_page: OpenPage, api: Api, film: bytes) -> None:
    """Arrows step through the frames whatever their distance, End and Home go to the ends, space plays and pauses."""
    visit = open_page()
    visit.drop(film, "film.webm", "video/webm")
    job_id = visit.labelled()
    frames = api.frames(job_id)
    visit.page.focus("#lanes")
    for index in (1, 2, 3, 4):
        visit.page.keyboard.press("ArrowRight")
        visit.shown_frame(index)
        assert visit.time == pytest.approx(frames[index]["timestamp_s"], abs=0.03)
    visit.page.keyboard.press("ArrowLeft")
    visit.shown_frame(3)
    visit.page.keyboard.press("End")
    visit.page.wait_for_function(f"() => document.querySelector('#now-frame').textContent === 'frame {FRAMES - 1}'")
    visit.page.keyboard.press("Home")
    visit.shown_frame(0)
    for paused in (False, True):
        visit.page.keyboard.press(" ")
        visit.page.wait_for_function(
            "(paused) => document.querySelector('#screen video').paused === paused", arg=paused
        )
    visit.page.keyboard.press("+")
    assert visit.page.is_enabled("#zoom-out")


def test_gif_shows_its_frames(open_page: OpenPage, api: Api, clips: Any) -> None:
    """What <video> cannot play is shown frame by frame, with its boxes."""
    visit = open_page()
    visit.drop(clips.video(clips.pictures(6), container="gif"), "film.gif", "image/gif")
    job_id = visit.labelled()
    record = api.frames(job_id)[4]
    visit.page.focus("#lanes")
    for _ in range(4):
        visit.page.keyboard.press("ArrowRight")
    visit.page.wait_for_function("() => document.querySelector('#now-frame').textContent === 'frame 4'")
    visit.page.wait_for_function("() => document.querySelector('#screen canvas').width === 320")
    visit.page.wait_for_timeout(200)
    assert_box(visit, record, (320, 240))


def test_video_that_cannot_be_played_degrades(open_page: OpenPage, api: Api, clips: Any) -> None:
    """A codec that the browser lacks costs the picture only: boxes, values and lanes are there."""
    visit = open_page()
    visit.drop(clips.video(clips.pictures(6)), "old.mp4", "video/mp4")
    job_id = visit.labelled()
    visit.page.wait_for_selector("#no-picture:not([hidden])")
    assert "cannot show this kind of file" in (visit.page.text_content("#no-picture-words") or "")
    visit.page.focus("#lanes")
    visit.page.keyboard.press("ArrowRight")
    visit.page.wait_for_timeout(100)
    assert_box(visit, api.frames(job_id)[1], (320, 240))


def test_real_face_is_followed(open_page: OpenPage, api: Api) -> None:
    """A real person's video, dropped: boxes are where the API says, at three times."""
    if not VIDEOS.is_dir():
        pytest.skip(f"no real clips: {VIDEOS.name} is not beside the checkout")
    visit = open_page()
    visit.drop((VIDEOS / "single_face.mp4").read_bytes(), "single_face.mp4", "video/mp4")
    frames = api.frames(visit.labelled())
    for index in (10, 35, 60):
        visit.click_at((frames[index]["timestamp_s"] + frames[index + 1]["timestamp_s"]) / 2)
        visit.page.wait_for_function(
            "(index) => document.querySelector('#now-frame').textContent === `frame ${index}`",
            arg=frames[index]["frame_index"],
        )
        visit.page.wait_for_timeout(200)
        assert_box(visit, frames[index], (640, 360))
