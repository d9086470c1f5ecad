"""Saved files equal the API's responses."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Route, expect

from app.contract.exports import ExportFormat, suffix

if TYPE_CHECKING:
    from tests.browser.conftest import OpenPage, Visit
    from tests.service import Api

pytestmark = [pytest.mark.browser, pytest.mark.e2e]


def saved(visit: Visit, kind: str) -> tuple[str, bytes]:
    """Press a button -> the suggested name and the content of what the browser saves."""
    with visit.page.expect_download(timeout=90_000) as waiting:
        visit.page.click(f"button[data-save={kind}]")
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


@pytest.fixture
def visit(open_page: OpenPage, labelled: dict[str, Any]) -> Visit:
    """At a labelled job."""
    visit = open_page()
    visit.open(labelled["id"])
    visit.labelled()
    return visit


@pytest.mark.parametrize("kind", ["csv", "ndjson", "vtt", "srt", "eaf", "textgrid", "openface", "parquet"])
def test_records_are_saved_as_the_api_gives_them(
    visit: Visit, api: Api, labelled: dict[str, Any], kind: ExportFormat
) -> None:
    """Each format is saved byte for byte, under the job's name."""
    visit.page.evaluate("document.querySelector('.other-formats').open = true")
    name, content = saved(visit, kind)
    assert name == f"film.{suffix(kind)}"
    assert content == api.http.get(f"/v1/jobs/{labelled['id']}/frames", params={"format": kind}).content


def test_members_are_saved_when_asked_for(visit: Visit, api: Api, labelled: dict[str, Any]) -> None:
    """With the box ticked, records hold each model's own values."""
    visit.page.check("#save-members")
    _, content = saved(visit, "ndjson")
    query = {"format": "ndjson", "members": "true"}
    assert content == api.http.get(f"/v1/jobs/{labelled['id']}/frames", params=query).content


def test_timeline_is_saved(visit: Visit, api: Api, labelled: dict[str, Any]) -> None:
    """The timeline is the API's picture; a video that was not kept is not offered."""
    _, picture = saved(visit, "timeline")
    assert picture == api.http.get(f"/v1/jobs/{labelled['id']}/timeline.svg").content
    assert visit.page.is_disabled("#save-video")


def test_annotated_video_is_saved_and_a_reload_keeps_the_picture(open_page: OpenPage, api: Api, film: bytes) -> None:
    """A kept video is rendered with boxes on request; after a reload its preview plays in step."""
    visit = open_page()
    visit.page.check("#keep-input")
    visit.drop(film, "film.webm", "video/webm")
    job_id = visit.labelled()
    name, video = saved(visit, "video")
    assert name == "film-labelled.mp4"
    assert video[4:8] == b"ftyp"
    assert video == api.http.get(f"/v1/jobs/{job_id}/video").content
    visit.page.select_option("#video-style", "pixelate")
    name, video = saved(visit, "video")
    assert name == "film-pixelate.mp4"
    assert video == api.http.get(f"/v1/jobs/{job_id}/video?style=pixelate").content
    visit.page.reload()
    visit.page.wait_for_selector("#screen video", timeout=30_000)
    visit.labelled()
    visit.page.focus("#lanes")
    for index in (1, 2, 3):
        visit.page.keyboard.press("ArrowRight")
        visit.shown_frame(index)
    assert visit.page.locator("#no-picture").is_hidden()
    assert api.http.delete(f"/v1/jobs/{job_id}").status_code == 204


def test_a_video_that_is_being_made_tells_how_far_it_is(open_page: OpenPage, api: Api, film: bytes) -> None:
    """In percent, beside its button, until it is saved."""
    visit = open_page()
    visit.page.check("#keep-input")
    visit.drop(film, "film.webm", "video/webm")
    job_id = visit.labelled()
    asked = 0

    def answer(route: Route) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            return route.fulfill(status=202, json={"progress": 0.4})
        if asked == 2:
            expect(visit.page.locator("#video-note")).to_have_text("The video is being made … 40 %")
        return route.continue_()

    visit.page.route(re.compile("/video"), answer)
    saved(visit, "video")
    expect(visit.page.locator("#video-note")).to_have_text("")
    api.http.delete(f"/v1/jobs/{job_id}")


def test_command_does_the_same(open_page: OpenPage, api: Api, film: bytes) -> None:
    """The curl command names the file, every option that was chosen and no other, and this service."""
    visit = open_page()
    visit.page.click("#more-options summary")
    visit.page.select_option("[name=sample_fps]", "5")
    visit.page.uncheck("[value=cnn_rnn]")
    visit.page.fill("[name=max_faces]", "2")
    visit.page.select_option("[name=prior]", "balanced")
    visit.drop(film, "it's a film.webm", "video/webm")
    job = api.job(visit.labelled())
    send, read = (shlex.split(line) for line in (visit.page.text_content("#curl") or "").splitlines())
    fields = dict(pair.split("=", 1) for option, pair in pairwise(send) if option == "-F")
    assert fields == {
        "file": "@it's a film.webm",
        "sample_fps": "5",
        "members": "cnn,cnn_transformer",
        "max_faces": "2",
        "prior": "balanced",
    }
    assert (job["options"]["sample_fps"], job["options"]["members"]) == (5, ["cnn", "cnn_transformer"])
    assert send[-1] == f"{visit.url}/v1/jobs"
    assert urlsplit(read[-1]).path == "/v1/jobs/ID/frames"
