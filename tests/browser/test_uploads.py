"""Many files at once, from files, folders and the clipboard; what fails on the way, in words; names and search."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Route, expect

from tests.browser.stored import invented, store
from tests.worker.decode.scenes import scene, write

if TYPE_CHECKING:
    from tests.browser.conftest import OpenPage, Visit
    from tests.service import Api, Clips

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2"
PROXY = "<html><body><h1>413 Request Entity Too Large</h1></body></html>"


def chosen(visit: Visit, count: int) -> None:
    """Choose so many small videos, which no worker can decode."""
    files = [
        {"name": f"take {n:02}.mp4", "mimeType": "video/mp4", "buffer": MP4 + bytes(999 + n)} for n in range(count)
    ]
    visit.page.set_input_files("#files", files)  # type: ignore[arg-type]


def test_fifty_files_are_a_queue_that_stays_usable(open_page: OpenPage, api: Api) -> None:
    """Proxy errors are explained and can be retried; other uploads continue; leaving shows a warning."""
    visit = open_page(expected=(413, 502))
    posts = 0

    def answer(route: Route) -> None:
        nonlocal posts
        posts += route.request.method == "POST"
        if route.request.method == "POST" and posts in {2, 4}:
            route.fulfill(status=413 if posts == 2 else 502, content_type="text/html", body=PROXY)
        elif route.request.method == "POST":
            job = {"id": f"{posts:032x}"}
            route.fulfill(status=202, content_type="application/json", body=json.dumps(job))
        else:
            route.continue_()

    visit.page.route("**/v1/jobs", answer)
    chosen(visit, 50)
    words = visit.page.locator("#queue-words")
    expect(words).to_have_text("48 uploads sent, 2 failed", timeout=30_000)
    failed = visit.page.locator(".upload[data-state=failed]")
    expect(failed.locator(".upload-state")).to_have_text(
        [re.compile("refuses files as large.*http_413"), re.compile("gets no answer from it.*http_502")]
    )
    height = visit.page.evaluate("document.querySelector('#uploads').clientHeight / innerHeight")
    assert height <= 0.41
    visit.page.click("#retry-failed")
    expect(words).to_have_text("50 uploads sent")
    visit.page.click("#clear-sent")
    expect(visit.page.locator("#queue")).to_be_hidden()


def test_what_was_not_sent_goes_when_the_connection_is_back(open_page: OpenPage, clips: Clips) -> None:
    """By itself, without a press of a button."""
    visit = open_page(expected=("net::ERR_INTERNET_DISCONNECTED",))
    visit.page.context.set_offline(True)
    file = {"name": "a.mp4", "mimeType": "video/mp4", "buffer": clips.video(clips.pictures(2))}
    visit.page.set_input_files("#files", [file])  # type: ignore[arg-type]
    expect(visit.page.locator(".upload-state")).to_contain_text("The service does not respond. Try again")
    visit.page.context.set_offline(False)
    expect(visit.page.locator(".upload-state")).to_have_text("Sent")


def test_leaving_while_files_are_sent_is_warned_of(open_page: OpenPage, api: Api) -> None:
    """And only then; meanwhile the header of other views and the tab's title say how far it is."""
    visit = open_page()
    before = "() => !window.dispatchEvent(new Event('beforeunload', { cancelable: true }))"
    assert not visit.page.evaluate(before)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 100_000}
    visit.page.context.new_cdp_session(visit.page).send("Network.emulateNetworkConditions", slow)
    file = {"name": "a.mp4", "mimeType": "video/mp4", "buffer": MP4 + bytes(3_000_000)}
    visit.page.set_input_files("#files", [file])  # type: ignore[arg-type]
    expect(visit.page).to_have_title(re.compile(r"^Sending \d+ %"))
    assert visit.page.evaluate(before)
    expect(visit.page.locator("#sending")).to_have_text("Sending 1 file")
    visit.page.locator(".upload").get_by_role("button", name="Cancel").click()
    expect(visit.page.locator("#sending")).to_be_hidden()
    assert not visit.page.evaluate(before)


FOLDER = """async (names) => {
  const { filesOfDrop } = await import("./static/page/dropped.js");
  const file = (name) => ({ isFile: true, isDirectory: false, name, file: (done) => done(new File(["x"], name)) });
  const folder = (name, entries) => ({
    isFile: false, isDirectory: true, name,
    createReader: () => ({ readEntries: (done) => done(entries.splice(0, 2)) }),
  });
  const inner = folder("inner", [file("4.webm"), file("notes.txt")]);
  const outer = folder("outer", [file("10.mp4"), file("2.mp4"), file(".hidden.mp4"), inner, file("1.jpg")]);
  const items = [outer, file("loose.xyz")].map((entry) => ({ kind: "file", webkitGetAsEntry: () => entry }));
  return (await filesOfDrop({ items, files: [] })).map(({ name }) => name);
}"""


def test_a_folder_is_read_in_the_order_of_names(open_page: OpenPage) -> None:
    """With the folders in it; what is no video, picture or archive is passed over, unless dropped itself."""
    found = open_page().page.evaluate(FOLDER)
    assert found == ["1.jpg", "2.mp4", "10.mp4", "4.webm", "loose.xyz"]


def test_pasted_pictures_are_sent_and_addresses_say_what_to_do(open_page: OpenPage, api: Api, clips: Clips) -> None:
    """A picture from the clipboard becomes a job; an address, pasted or dropped, is explained."""
    visit = open_page()
    paste = """([name, bytes, text]) => {
      const clipboardData = new DataTransfer();
      if (text) clipboardData.setData("text/plain", text);
      else clipboardData.items.add(new File([Uint8Array.from(bytes)], name, { type: "image/png" }));
      document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
    }"""
    visit.page.evaluate(paste, ["", [], "https://video.example/watch?v=1"])
    problem = visit.page.locator("#home-problem-words")
    expect(problem).to_have_text(re.compile(r"^https://video.example/watch\?v=1 is an address, not a file. Save "))
    visit.page.evaluate(paste, ["image.png", list(clips.png(1)), ""])
    job = api.job(visit.labelled())
    assert job["name"] == "image.png"
    visit.page.click(".crumb a")
    drop = """() => {
      const dataTransfer = new DataTransfer();
      dataTransfer.setData("text/uri-list", "https://other.example/");
      const event = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
      return document.body.dispatchEvent(event);
    }"""
    assert visit.page.evaluate(drop) is False  # or the browser would leave the page for that address
    expect(problem).to_have_text(re.compile(r"^https://other.example/ is an address"))


@pytest.fixture
def several(api: Api) -> Any:
    """Three jobs with names and metadata."""
    jobs = {
        "Interview Ana": {"subject": "P07"},
        "Interview Bo": {"subject": "P08"},
        "Holiday": {},
    }
    ids = {
        name: store(api.service.redis_url, list(invented(60, 1)), name=name, metadata=metadata)
        for name, metadata in jobs.items()
    }
    yield ids
    for job_id in ids.values():
        api.http.delete(f"/v1/jobs/{job_id}")


def test_jobs_are_found_and_renamed(open_page: OpenPage, api: Api, several: dict[str, str]) -> None:
    """The list finds by words, metadata, label, state and age; names and metadata are changed on the job."""
    visit = open_page()
    titles = visit.page.locator(".job-row .job-title")
    visit.page.get_by_role("button", name="subject: P07").click()
    expect(titles).to_have_text(["Interview Ana"])
    visit.page.get_by_role("button", name="No longer only subject: P07").click()
    with visit.page.expect_request(re.compile("since=")) as asked:
        visit.page.select_option("#find [name=hours]", "24")
    since = datetime.fromisoformat(parse_qs(urlsplit(asked.value.url).query)["since"][0])
    assert abs(datetime.now(UTC) - timedelta(days=1) - since) < timedelta(minutes=1)
    visit.page.fill("#find input", "interview p08")
    expect(titles).to_have_text(["Interview Bo"])
    visit.page.fill("#find input", "nothing like it")
    expect(visit.page.locator("#none-found")).to_be_visible()
    visit.page.fill("#find input", "interview")
    visit.page.select_option("#find [name=state]", "failed")
    expect(titles).to_have_count(0)
    visit.page.select_option("#find [name=state]", "")
    expect(titles).to_have_count(2)
    shares = api.job(several["Interview Bo"])["label_shares"]
    visit.page.select_option("#find-label", max(shares, key=shares.__getitem__))
    expect(titles).to_have_count(2)
    visit.page.get_by_role("link", name="Interview Bo").click()
    visit.page.click("#name-job")
    visit.page.fill("#naming-name", "Take\u202e 3")
    visit.page.fill("#naming-metadata", "no key here!")
    visit.page.click("#naming-form .primary")
    expect(visit.page.locator("#naming-wrong")).to_contain_text("has no key")
    visit.page.fill("#naming-metadata", "site: Gent\nnote = with: colon")
    visit.page.click("#naming-form .primary")
    expect(visit.page.locator("#job-name")).to_have_text("Take 3")
    expect(visit.page.locator("#job-tags li")).to_have_text(["note: with: colon", "site: Gent"])
    expect(visit.page).to_have_title("Take 3 · Mien")
    assert api.job(several["Interview Bo"])["metadata"] == {"site": "Gent", "note": "with: colon"}


def test_a_job_that_another_tab_deletes_is_told_to_be_gone(open_page: OpenPage, api: Api) -> None:
    """At once in the tabs of the same browser; nothing of it can be used any more."""
    job_id = store(api.service.redis_url, list(invented(60, 1)), name="Shared")
    visit = open_page()
    visit.open(job_id)
    visit.labelled()
    other = visit.page.context.new_page()
    other.on("dialog", lambda dialog: dialog.accept())
    other.goto(visit.url)
    other.locator(f"[data-id='{job_id}']").get_by_role("button", name="Delete").click()
    expect(visit.page.locator("#job-line")).to_have_text("Deleted")
    expect(visit.page.locator("#job-body")).to_be_hidden()
    expect(visit.page.locator("#job-actions")).to_be_hidden()
    other.close()


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "not kept"])
def test_a_file_that_browsers_do_not_show_has_a_preview(
    open_page: OpenPage, api: Api, tmp_path: Path, keep: bool
) -> None:
    """Of HEVC with sound Chromium plays the sound, without an error: the page tells it, and has a preview if kept."""
    path = write(tmp_path / "phone.mp4", scene(6), "libx265", sound_s=0.3)
    visit = open_page()
    if keep:
        visit.page.check("#keep-input")
    visit.page.set_input_files("#files", str(path))
    job_id = visit.labelled()
    words = visit.page.locator("#no-picture-words")
    if keep:
        visit.page.wait_for_function("() => document.querySelector('#screen video')?.videoWidth === 192")
        expect(words).to_be_hidden()
    else:
        expect(words).to_contain_text("cannot show this kind of file")
        expect(words).to_contain_text("labelled again with the video kept")
    api.http.delete(f"/v1/jobs/{job_id}")


BYTES = 60_000_000  # of a file that is sent in pieces


def large(path: Path, content: bytes) -> str:
    """A video that a box without a meaning makes large -> its SHA-256."""
    path.write_bytes(content + (BYTES - len(content)).to_bytes(4, "big") + b"free" + bytes(BYTES - len(content) - 8))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_large_file_goes_on_after_a_cut_and_a_reload(
    open_page: OpenPage, api: Api, clips: Clips, tmp_path: Path
) -> None:
    """The file is sent in pieces; received ones are not sent again, and the job's input equals the file."""
    path = tmp_path / "large.mp4"
    digest = large(path, clips.video(clips.pictures(6)))
    visit = open_page(expected=("net::ERR_FAILED", 502))
    begun, offsets, cut = [], [], {2: "abort", 3: "502", 5: "hold"}

    def answer(route: Route) -> None:
        request = route.request
        if request.method == "POST":
            begun.append(request.url)
        if request.method != "PATCH":
            return route.continue_()
        offsets.append(int(request.headers["upload-offset"]))
        match cut.get(len(offsets)):
            case "abort":
                route.abort()
            case "502":
                route.fulfill(status=502, content_type="text/html", body=PROXY)
            case None:
                route.continue_()

    visit.page.route(re.compile("/v1/uploads"), answer)
    visit.page.set_input_files("#files", str(path))
    expect(visit.page.locator(".upload-state")).to_contain_text("The connection broke; it goes on")
    while len(offsets) < 5:
        visit.page.wait_for_timeout(50)
    visit.page.reload()
    visit.page.set_input_files("#files", str(path))
    job = api.job(visit.labelled())
    assert (job["input"]["sha256"], job["input"]["bytes"], job["name"]) == (digest, BYTES, "large.mp4")
    assert len(begun) == 1
    step = offsets[4] - offsets[3]
    expected = [0, 1, 1, 1, 2, 2, *range(3, -(-BYTES // step))]
    assert offsets == [step * n for n in expected]
    visit.page.wait_for_selector("#no-picture:not([hidden])")
    assert visit.page.evaluate("Object.keys(localStorage).length") == 0
    api.http.delete(f"/v1/jobs/{job['id']}")


def test_a_large_file_that_is_cancelled_leaves_nothing(
    open_page: OpenPage, api: Api, clips: Clips, tmp_path: Path
) -> None:
    """The received part is removed from the service."""
    path = tmp_path / "large.mp4"
    large(path, clips.video(clips.pictures(6)))
    visit = open_page()
    visit.page.route(re.compile("/v1/uploads/"), lambda route: route.request.method == "PATCH" or route.continue_())
    with visit.page.expect_response(lambda answer: answer.request.method == "POST") as created:
        visit.page.set_input_files("#files", str(path))
    upload = created.value.headers["location"]
    assert api.http.get(upload).status_code == 200
    with visit.page.expect_response(lambda answer: answer.request.method == "DELETE"):
        visit.page.locator(".upload").get_by_role("button", name="Cancel").click()
    assert api.http.get(upload).status_code == 404
    expect(visit.page.locator("#queue")).to_be_hidden()
