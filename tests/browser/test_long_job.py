"""A long job stays light: what is drawn depends on the screen, not on the length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.stored import invented, store
from tests.manual_worker import LABELS

if TYPE_CHECKING:
    from tests.browser.conftest import OpenPage
    from tests.service import Api

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

FRAMES = 10_000
# Counts what is drawn on lanes: points of paths, and rectangles.
COUNT = """() => {
  window.drawn = 0;
  const of = CanvasRenderingContext2D.prototype;
  for (const name of ["lineTo", "fillRect"]) {
    const plain = of[name];
    of[name] = function (...numbers) {
      if (this.canvas.classList.contains("lane-canvas")) window.drawn += 1;
      return plain.apply(this, numbers);
    };
  }
}"""


def test_ten_thousand_frames_cost_what_is_visible(open_page: OpenPage, api: Api) -> None:
    """A lane has a few points a pixel column and label; scrubbing draws no lane; values are the API's anywhere."""
    job_id = store(api.service.redis_url, list(invented(FRAMES, 1)))
    visit = open_page()
    visit.open(job_id)
    visit.labelled()
    visit.page.focus("#lanes")
    while visit.page.text_content("#now-frame") != f"frame {FRAMES - 1}":  # until all records are there
        visit.page.keyboard.press("End")
        visit.page.wait_for_timeout(100)
    visit.page.wait_for_timeout(500)
    canvas = visit.page.locator(".lane-canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    visit.page.evaluate(COUNT)
    visit.page.keyboard.press("+")
    visit.page.keyboard.press("-")
    visit.page.wait_for_timeout(300)
    drawn = visit.page.evaluate("window.drawn")
    assert 0 < drawn <= 2 * (2 * len(LABELS) + 3) * box["width"]
    visit.page.evaluate("window.drawn = 0")
    visit.page.mouse.move(box["x"] + 5, box["y"] + 20)
    visit.page.mouse.down()
    for step in range(40):
        visit.page.mouse.move(box["x"] + 5 + (box["width"] - 10) * step / 40, box["y"] + 20)
    visit.page.mouse.up()
    assert visit.page.evaluate("window.drawn") == 0
    position = int((visit.page.text_content("#now-frame") or "").removeprefix("frame "))
    assert position > FRAMES * 0.9
    (record,) = api.http.get(f"/v1/jobs/{job_id}/frames", params={"from": position, "limit": 1}).json()["frames"]
    shown = visit.page.locator("#values-table tbody .value").all_text_contents()
    assert shown == [f"{round(100 * score + 1e-9)} %" for score in record["faces"][0]["scores"].values()]
    api.http.delete(f"/v1/jobs/{job_id}")
