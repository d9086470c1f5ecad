"""Many people, long videos, moments, and two jobs beside each other; jobs with invented results, on real services."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Route, expect

from tests.browser.stored import crowd, invented, store
from tests.waiting import until

if TYPE_CHECKING:
    from tests.browser.conftest import OpenPage, Visit
    from tests.service import Api

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SCREENS = "document.documentElement.scrollHeight / innerHeight"
IN_VIEW = "(name) => { const { top, bottom } = document.querySelector(name).getBoundingClientRect();\
 return top >= -1 && bottom <= innerHeight + 1; }"


WRITTEN = """() => {
  window.written = [];
  const of = CanvasRenderingContext2D.prototype;
  const plain = of.fillText;
  of.fillText = function (...given) {
    if (this.canvas.id === "overlay") window.written.push(given[0]);
    return plain.apply(this, given);
  };
}"""


@pytest.fixture
def many(api: Api) -> Iterator[str]:
    """A job with 110 people."""
    job_id = store(api.service.redis_url, list(crowd(1200, 110)), name="Crowd")
    yield job_id
    api.http.delete(f"/v1/jobs/{job_id}")


@pytest.fixture
def three(api: Api) -> Iterator[str]:
    """A job with three people."""
    job_id = store(api.service.redis_url, list(invented(1500, 3)), name="Three")
    yield job_id
    api.http.delete(f"/v1/jobs/{job_id}")


def loaded(visit: Visit, job_id: str, last: int) -> None:
    """Open the job, and wait until all of its records are there."""
    visit.open(job_id)
    visit.labelled()
    visit.page.focus("#lanes")
    while visit.page.text_content("#now-frame") != f"frame {last}":
        visit.page.keyboard.press("End")
        visit.page.wait_for_timeout(100)
    visit.page.keyboard.press("Home")


def names(visit: Visit) -> list[str]:
    """The people whose lanes are shown."""
    return [str(text).partition(" · ")[0] for text in visit.page.locator("#lanes .lane-name").all_text_contents()]


@pytest.mark.parametrize(
    "context", [{"viewport": {"width": 1280, "height": 900}}, {"viewport": PHONE}], ids=["wide", "phone"]
)
def test_a_hundred_people_fit_on_three_screens(open_page: OpenPage, many: str, context: dict[str, Any]) -> None:
    """Longest first, the others folded; unfolded they scroll by themselves, with picture and values in view."""
    visit = open_page(**context)
    loaded(visit, many, 1199)
    assert names(visit)[0] == "Face 0"
    assert len(names(visit)) == 12
    three = 3 if context["viewport"] is not PHONE else 4.5
    assert visit.page.evaluate(SCREENS) <= three
    visit.page.click("#all-lanes")
    expect(visit.page.locator("#lanes .lane")).to_have_count(110)
    assert visit.page.evaluate(SCREENS) <= three
    visit.page.locator("#lanes .lane").nth(5).scroll_into_view_if_needed()
    visit.page.evaluate("document.querySelector('#axis').scrollIntoView({ block: 'end' })")
    visit.page.wait_for_timeout(200)
    for shown in ("#media", "#readout-words" if context["viewport"] is PHONE else "#values-table"):
        assert visit.page.evaluate(IN_VIEW, shown), shown
    assert not Axe().run(visit.page).response["violations"]


def kept(api: Api, job_id: str, persons: list[dict[str, Any]]) -> None:
    """Wait until this is what the service has."""
    until(lambda: api.job(job_id)["persons"] == persons)


def test_people_are_named_merged_hidden_and_shown_alone(open_page: OpenPage, api: Api, three: str) -> None:
    """Notes on people are stored with the job and exported; hidden people have no box, lane or button."""
    visit = open_page()
    loaded(visit, three, 1499)
    page = visit.page
    page.locator(".lane", has_text="Face 0").click()
    page.fill("#person-name", "Ana")
    page.press("#person-name", "Enter")
    expect(page.locator("#lanes .lane-name").first).to_have_text(re.compile("^Ana · "))
    page.select_option("#person-same", label="Face 2")
    expect(page.locator("#lanes .lane")).to_have_count(2)
    kept(api, three, [{"name": "Ana", "tracks": [0, 2], "hidden": False}])
    page.click("#person-solo")
    expect(page.locator("#lanes .lane")).to_have_count(1)
    page.click("#person-solo")
    page.locator(".lane", has_text="Face 1").click()
    page.click("#person-hide")
    expect(page.locator("#lanes .lane")).to_have_count(1)
    expect(page.locator("#faces-now")).to_be_hidden()
    until(lambda: len(api.job(three)["persons"]) == 2)
    page.reload()
    visit.labelled()
    expect(page.locator("#unhide")).to_have_text("Show 1 hidden")
    assert names(visit) == ["Ana"]
    page.click("#unhide")
    expect(page.locator("#lanes .lane")).to_have_count(2)
    page.locator(".lane", has_text="Ana").click()
    page.click("#person-split")
    expect(page.locator("#lanes .lane")).to_have_count(3)
    page.locator(".lane", has_text="Face 1").click()
    page.click("#person-hide")
    expect(page.locator("#person-same option")).to_have_text(["the same as …", "Face 2"])
    page.click("#unhide")
    expect(page.locator("#person-same option")).to_have_text(["the same as …", "Face 1", "Face 2"])
    kept(api, three, [])


def test_a_late_answer_does_not_undo_a_change(open_page: OpenPage, api: Api, three: str) -> None:
    """A job that was requested before a person got a name, and arrives later, does not take the name away."""
    visit = open_page()
    loaded(visit, three, 1499)
    page = visit.page
    former, held = api.job(three), []

    def hold(route: Route) -> None:
        if route.request.method == "GET":
            held.append(route)
        else:
            route.continue_()

    page.route(f"**/v1/jobs/{three}", hold)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    while not held:
        page.wait_for_timeout(20)
    page.fill("#person-name", "Ana")
    with page.expect_response(lambda answer: answer.request.method == "PATCH"):
        page.press("#person-name", "Enter")
    name = page.locator("#lanes .lane-name").first
    expect(name).to_have_text(re.compile("^Ana · "))
    with page.expect_response(lambda answer: answer.request.method == "GET"):
        held[0].fulfill(json=former)
    page.wait_for_timeout(200)
    expect(name).to_have_text(re.compile("^Ana · "))


def segments(api: Api, job_id: str, track: int) -> list[dict[str, Any]]:
    """Of a track, as the summary has them."""
    tracks = api.http.get(f"/v1/jobs/{job_id}/summary").json()["tracks"]
    found: list[dict[str, Any]] = next(each for each in tracks if each["track_id"] == track)["segments"]
    return found


def test_one_finds_when_the_second_person_first_shows_a_label(open_page: OpenPage, api: Api, three: str) -> None:
    """Jumps lead to the summary's segments of the chosen person and label; a link leads to the same moment."""
    visit = open_page()
    loaded(visit, three, 1499)
    page = visit.page
    page.wait_for_selector("#timeline[data-segments=smoothed]")
    wanted = next(each for each in segments(api, three, 1) if each["label"] == "Sadness")
    page.locator(".lane", has_text="Face 1").click(position={"x": 2, "y": 30})
    page.keyboard.press("Home")
    page.locator("#legend button", has_text="Sadness").click()
    page.click("#jump-on")
    assert visit.time == pytest.approx(wanted["start_s"], abs=0.05)
    expect(page.locator("#values-caption")).to_have_text("Values of Face 1 at the current time")
    page.click("#jump-back")
    expect(page.locator("#jump-words")).to_have_text("No earlier change of label to Sadness of Face 1.")
    page.click("#jump-on")
    page.click("#jump-back")
    expect(page.locator("#jump-words")).to_have_text("")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#copy-moment")
    link = page.evaluate("navigator.clipboard.readText()")
    query = parse_qs(urlsplit(link).fragment)
    assert (query["job"], query["face"]) == ([three], ["1"])
    other = open_page()
    other.page.goto("about:blank")
    other.page.goto(link)
    other.labelled()
    expect(other.page.locator("#values-caption")).to_have_text("Values of Face 1 at the current time")
    assert other.time == pytest.approx(wanted["start_s"], abs=0.05)


def test_a_part_is_moved_and_moments_are_gone_to(open_page: OpenPage, three: str) -> None:
    """Zoomed in there is a minimap that moves the part; keys go to changes, disagreements and peaks and back."""
    visit = open_page()
    loaded(visit, three, 1499)
    page = visit.page
    expect(page.locator("#minimap")).to_be_hidden()
    for _ in range(4):
        page.keyboard.press("+")
    box = page.locator("#minimap").bounding_box()
    assert box is not None
    before = page.locator("#axis").text_content()
    page.mouse.move(box["x"] + 10, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 10, steps=4)
    page.mouse.up()
    assert page.locator("#axis").text_content() != before
    page.mouse.wheel(400, 0)
    for kind in ("change", "disagreement", "peak"):
        page.select_option("#jump-kind", kind)
        page.focus("#lanes")
        page.keyboard.press("Home")
        times = []
        for _ in range(3):
            page.keyboard.press("n")
            times.append(visit.time)
        assert times == sorted(set(times)), kind
        page.keyboard.press("p")
        assert visit.time == pytest.approx(times[1], abs=0.03)


def test_two_fingers_zoom_and_move_the_part(open_page: OpenPage, three: str) -> None:
    """The content under the fingers stays under them during pinch and pan."""
    visit = open_page(viewport=PHONE, has_touch=True)
    loaded(visit, three, 1499)
    page = visit.page
    page.locator("#lanes").scroll_into_view_if_needed()
    box = page.locator(".lane-canvas").first.bounding_box()
    assert box is not None
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *places: float) -> None:
        points = [{"x": box["x"] + box["width"] * x, "y": box["y"] + 20, "id": n} for n, x in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def part() -> list[float]:
        """Start and length of the visible part, in percent of the whole."""
        found: list[float] = page.evaluate(
            "['left', 'width'].map((side) => parseFloat(document.querySelector('#minimap-part').style[side]))"
        )
        return found

    touch("touchStart", 0.4, 0.6)
    touch("touchMove", 0.1, 0.9)
    until(lambda: part() == pytest.approx([37.5, 25], abs=1))
    touch("touchMove", 0.0, 0.8)
    until(lambda: part() == pytest.approx([40, 25], abs=1))
    touch("touchEnd")


# What lies on the picture since it was cleared last: plates are filled, boxes are not.
PLATES = """() => {
  const of = CanvasRenderingContext2D.prototype;
  for (const name of ["clearRect", "fillRect", "strokeRect"]) {
    const plain = of[name];
    of[name] = function (...given) {
      if (this.canvas.id === "overlay" && name === "clearRect") window.drawn = { fillRect: [], strokeRect: [] };
      else if (this.canvas.id === "overlay") window.drawn[name].push(given);
      return plain.apply(this, given);
    };
  }
}"""


def test_plates_hide_no_faces(open_page: OpenPage, many: str) -> None:
    """Tags of people in a row overlap neither faces nor other tags."""
    visit = open_page()
    loaded(visit, many, 1199)
    visit.page.evaluate(PLATES)
    visit.click_at(24.0)
    visit.page.wait_for_function("() => window.drawn?.fillRect.length")
    drawn = visit.page.evaluate("window.drawn")
    plates, boxes = ([tuple(rectangle) for rectangle in drawn[name]] for name in ("fillRect", "strokeRect"))
    assert len(set(boxes)) > 5
    for number, plate in enumerate(plates):
        hidden = [shared(plate, other) for other in {*boxes, *plates[:number]} - {plate}]
        assert sum(hidden) <= 0.05 * plate[2] * plate[3], plate


def shared(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The area that two rectangles share; each is left, top, width, height."""
    width, height = (min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    return max(width, 0) * max(height, 0)


def test_what_is_unsure_looks_unsure(open_page: OpenPage, api: Api, three: str) -> None:
    """Values below `unsure_below` are marked as unsure."""
    visit = open_page()
    loaded(visit, three, 1499)
    frames = api.http.get(f"/v1/jobs/{three}/frames?limit=1000").json()["frames"]
    unsure = next(frame for frame in frames if frame["faces"][0]["score"] < 0.39)
    visit.page.goto(f"{visit.url}/#job={three}&t={unsure['timestamp_s']}&face=0")
    expect(visit.page.locator("#agreement")).to_have_text(re.compile("^Unsure. The models "))


def test_two_jobs_are_on_one_clock(open_page: OpenPage, api: Api, three: str) -> None:
    """Another job of the same video beside this one: its values at the same moment, in words and numbers."""
    twin = store(api.service.redis_url, list(invented(1500, 2)), name="Twin")
    visit = open_page()
    loaded(visit, three, 1499)
    page = visit.page
    page.focus("#compare-with")
    page.wait_for_selector("#compare-with optgroup[label='The same video']", state="attached")
    page.select_option("#compare-with", twin)
    expect(page.locator("#other-name")).to_have_text("Twin")
    expect(page.locator(".other-lane")).to_have_count(2)
    visit.click_at(20.0)
    page.wait_for_timeout(300)
    position = int((page.text_content("#now-frame") or "").removeprefix("frame "))
    (record,) = api.http.get(f"/v1/jobs/{twin}/frames", params={"from": position, "limit": 1}).json()["frames"]
    shown = page.locator("#compare-table tbody tr td:nth-child(3)").all_text_contents()
    assert shown == [f"{round(100 * score + 1e-9)} %" for score in record["faces"][0]["scores"].values()]
    page.click("#compare-end")
    expect(page.locator("#compare")).to_be_hidden()
    expect(page.locator("#compare-with")).to_have_value("")
    assert "with=" not in page.url
    api.http.delete(f"/v1/jobs/{twin}")


def test_a_model_is_chosen_for_one_job(open_page: OpenPage, api: Api, three: str) -> None:
    """The next job that is opened shows all models together again, also on its picture."""
    twin = store(api.service.redis_url, list(invented(1500, 1)), name="Twin")
    visit = open_page()
    loaded(visit, three, 1499)
    page = visit.page
    page.locator("#source-choices input[value='2']").check(force=True)
    page.evaluate(WRITTEN)
    page.evaluate("(id) => (location.hash = `#job=${id}`)", twin)
    expect(page.locator("#job-name")).to_have_text("Twin")
    expect(page.locator("#lanes .lane")).to_have_count(1)
    page.locator("#lanes").press("ArrowRight")
    record = api.http.get(f"/v1/jobs/{twin}/frames", params={"from": 1, "limit": 1}).json()["frames"][0]
    (face,) = record["faces"]
    until(lambda: page.evaluate("window.written.at(-1)") == f"{face['label']} {round(100 * face['score'] + 1e-9)} %")
    api.http.delete(f"/v1/jobs/{twin}")


def test_a_call_is_tried_in_the_documentation(open_page: OpenPage, api: Api, three: str) -> None:
    """Descriptions are Markdown; a call's form sends it, and shows the answer."""
    visit = open_page()
    visit.page.goto(f"{visit.url}/docs")
    visit.page.wait_for_selector("#schemas")
    assert "`" not in (visit.page.locator("#calls section p").all_text_contents() or [""])
    call = visit.page.locator("section[id='get-/v1/jobs/{job_id}']")
    call.locator(".trial summary").click()
    call.locator("[data-name=job_id]").fill(three)
    call.get_by_role("button", name="Send GET").click()
    answer = call.locator("pre[aria-label=Answer]")
    expect(answer).to_contain_text('"name": "Three"')
    body = json.loads((answer.text_content() or "").split("\n\n", 1)[1])
    assert body["id"] == three
