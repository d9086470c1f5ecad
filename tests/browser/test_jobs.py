"""Jobs from the page: waiting, cancelling, deleting, earlier ones; keys; what goes wrong, in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import expect

from tests.service import serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.conftest import OpenPage
    from tests.service import Api, Clips

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

KEY = "a-key-for-tests"


def test_upload_shows_its_progress_and_is_cancelled(open_page: OpenPage, api: Api) -> None:
    """While a file is sent, its share is shown; a cancelled upload makes no job and leaves the next one its turn."""
    visit = open_page()
    before = len(api.http.get("/v1/jobs").json()["jobs"])
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 200_000}
    visit.page.context.new_cdp_session(visit.page).send("Network.emulateNetworkConditions", slow)
    big = b"\x00\x00\x00\x18ftypisom" + bytes(4_000_000)
    visit.page.set_input_files(
        "#files",
        [{"name": f"{n}.mp4", "mimeType": "video/mp4", "buffer": big} for n in "ab"],  # type: ignore[arg-type]
    )
    rows = visit.page.locator(".upload")
    expect(rows.nth(0).locator(".upload-state")).to_have_text(re.compile(r"^[1-9]\d? % of 4.0 MB"), timeout=20_000)
    expect(rows.nth(1).locator(".upload-state")).to_have_text("Waiting to be sent")
    rows.nth(0).get_by_role("button").click()
    expect(rows.locator(".upload-name")).to_have_text(["b.mp4"])
    expect(rows.locator(".upload-state")).to_have_text(re.compile(r"^\d+ % of"), timeout=20_000)
    rows.get_by_role("button").click()
    expect(rows).to_have_count(0)
    assert len(api.http.get("/v1/jobs").json()["jobs"]) == before


def test_running_job_is_cancelled(open_page: OpenPage, api: Api, clips: Clips) -> None:
    """While a job runs, frames done, their rate and the time left are shown; cancelling keeps what there is."""
    visit = open_page()
    visit.drop(clips.video(clips.pictures(100, (640, 360)) * 16), "long.mp4", "video/mp4")
    line = visit.page.locator("#job-line")
    expect(line).to_have_text(re.compile(r"^[\d,]+ of 1,600 frames · [\d.]+ a second · about "), timeout=60_000)
    assert 0 < float(visit.page.get_attribute("#job-progress", "value") or 0) < 1
    visit.page.wait_for_selector(".lane-canvas")
    visit.page.click("#cancel-job")
    expect(line).to_have_text("Cancelled", timeout=30_000)
    job = api.ended(visit.job_id)
    assert job["state"] == "canceled"
    assert visit.page.locator("#cancel-job").is_hidden()
    assert visit.page.locator(".lane-canvas").count() >= 1


def test_earlier_jobs_are_listed_opened_and_deleted(open_page: OpenPage, api: Api, film: bytes) -> None:
    """The list has state, length and the labels that come first most often; a job is opened and deleted from there."""
    job, _ = api.label(film, "film.webm", sample_fps=5)
    visit = open_page()
    row = visit.page.locator(f"[data-id='{job['id']}']")
    expect(row.locator(".state")).to_have_text("Done")
    assert f"{job['progress']['frames_done']} frames" in (row.locator(".job-row-line").text_content() or "")
    summary = api.http.get(f"/v1/jobs/{job['id']}/summary").json()
    label = summary["video"]["label"]
    share = round(100 * summary["video"]["labels"][label]["share"] + 1e-9)
    expect(row.locator(".share-words span:not(.swatch)").first).to_have_text(f"{label} {share} %")
    row.get_by_role("link").click()
    assert visit.labelled() == job["id"]
    visit.page.click(".crumb a")
    row.get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    assert api.http.get(f"/v1/jobs/{job['id']}").status_code == 404


def test_deleted_job_leads_back(open_page: OpenPage, api: Api, film: bytes) -> None:
    """Deleting the shown job returns to the start view; its link then shows the problem and its code."""
    visit = open_page(expected=(404,))
    visit.drop(film, "film.webm", "video/webm")
    job_id = visit.labelled()
    visit.page.click("#delete-job")
    visit.page.wait_for_selector("#home-view:not([hidden])")
    assert api.http.get(f"/v1/jobs/{job_id}").status_code == 404
    visit.page.goto(f"{visit.url}/#job={job_id}")
    expect(visit.page.locator("#job-problem-code")).to_have_text("not_found")
    assert "no such job" in (visit.page.text_content("#job-problem-words") or "")


def test_bad_files_are_named_in_words(open_page: OpenPage, api: Api) -> None:
    """An unsupported file is refused at once, an undecodable one fails later; both show the problem with its code."""
    visit = open_page(expected=(415,))
    visit.drop(b"no video at all" * 50, "notes.mp4", "video/mp4")
    row = visit.page.locator(".upload", has_text="notes.mp4")
    expect(row.locator("code")).to_have_text("unsupported_media")
    assert "This file is not a video" in (row.locator(".upload-state").text_content() or "")
    visit.drop(b"\x00\x00\x00\x18ftypisom" + bytes(3000), "broken.mp4", "video/mp4")
    expect(visit.page.locator("#job-problem-code")).to_have_text("undecodable_input", timeout=60_000)
    assert "could not be read as a video" in (visit.page.text_content("#job-problem-words") or "")
    assert api.job(visit.job_id)["error"]["code"] == "undecodable_input"


def test_pictures_that_come_together_are_one_album_or_one_clip(open_page: OpenPage, api: Api, clips: Clips) -> None:
    """In the order of their names; an album's pictures are seconds apart, so that tracks do not continue."""
    visit = open_page()
    pictures = [
        {"name": f"{number}.png", "mimeType": "image/png", "buffer": clips.png(number)} for number in (10, 2, 1)
    ]
    visit.page.set_input_files("#files", pictures)  # type: ignore[arg-type]
    album = api.job(visit.labelled())
    assert (album["name"], album["input"]["frame_count"], album["options"]["fps"]) == ("1.png and 2 more", 3, 0.2)
    visit.page.click(".crumb a")
    visit.page.click("#more-options summary")
    visit.page.check("#one-clip")
    visit.page.set_input_files("#files", pictures)  # type: ignore[arg-type]
    job = api.job(visit.labelled())
    assert (job["input"]["frame_count"], job["options"]["fps"]) == (3, 30)
    expect(visit.page.locator("#job-name")).to_have_text("1.png and 2 more")


def test_key_is_asked_for_and_kept_in_the_tab(open_page: OpenPage, tmp_path: Path, film: bytes) -> None:
    """A wrong key is refused in words, the right one serves; jobs then wait in their order, without a worker.

    Where the reader asks for it, the key serves in other tabs, too, and goes with the browser's session.
    """
    with serving(tmp_path, MIEN_API_KEYS=KEY) as own, httpx.Client(transport=httpx.HTTPTransport(retries=9)) as client:
        own.wait_live()
        visit = open_page(own.url, expected=(401,), keyed=True)
        visit.page.fill("#key-input", "wrong")
        visit.page.keyboard.press("Enter")
        expect(visit.page.locator("#key-wrong")).to_have_text("That key is not known here.")
        visit.page.fill("#key-input", KEY)
        visit.page.keyboard.press("Enter")
        expect(visit.page.locator("#no-worker")).to_be_visible()
        visit.page.set_input_files(
            "#files",
            [{"name": f"{n}.webm", "mimeType": "video/webm", "buffer": film} for n in "ab"],  # type: ignore[arg-type]
        )
        lines = visit.page.locator(".job-row-line")
        expect(lines).to_have_text(["Waiting, 1 job before this one", "Next in the queue"])
        assert visit.page.locator(".job-title").all_text_contents() == ["b.webm", "a.webm"]
        assert "YOUR_KEY" not in visit.page.content()
        visit.page.locator(".job-title").first.click()
        expect(visit.page.locator("#job-line")).to_have_text("Waiting, 1 job before this one")
        stored = visit.page.evaluate("[JSON.stringify(localStorage), document.cookie, sessionStorage['mien.key']]")
        assert stored == ["{}", "", KEY]
        visit.page.reload()
        expect(visit.page.locator("#job-line")).to_have_text("Waiting, 1 job before this one")
        for job in client.get(f"{own.url}/v1/jobs", headers={"X-API-Key": KEY}).json()["jobs"]:
            client.delete(f"{own.url}/v1/jobs/{job['id']}", headers={"X-API-Key": KEY})
        visit.page.goto(f"{own.url}/#")
        visit.page.click("#forget-key")
        expect(visit.page.locator("#key-dialog")).to_be_visible()
        assert visit.page.evaluate("sessionStorage['mien.key']") is None
        visit.page.check("#key-everywhere")
        visit.page.fill("#key-input", KEY)
        visit.page.keyboard.press("Enter")
        expect(visit.page.locator("#no-worker")).to_be_visible()
        other = visit.page.context.new_page()
        other.goto(own.url)
        expect(other.locator("#no-worker")).to_be_visible()
        assert [cookie["expires"] for cookie in other.context.cookies()] == [-1]  # the session's
        other.context.clear_cookies()  # as a browser does when it is closed
        other.goto("about:blank")
        other.goto(own.url)
        expect(other.locator("#key-dialog")).to_be_visible()
        assert other.evaluate("JSON.stringify(localStorage)") == "{}"
        other.close()
        visit.page.goto("about:blank")  # before the service goes
