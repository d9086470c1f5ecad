"""A real Chromium at the page of the real service.

Every page is watched: a message on the console, an uncaught error or a request to another host fails the test.
"""

from __future__ import annotations

import base64
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import cv2
import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.puppet import GRIEF, RAGE, SMILE, Puppet, pose_at
from tests.service import Api

if TYPE_CHECKING:
    from tests.service import Clips, Service

NAMES = ("chromium", "chromium-browser", "google-chrome")
FRAMES = 40  # of the clip
LEVEL, STEP = 40, 5  # brightness of the first frame's mark, and how much brighter the next one's is
MARK_PX = 40
BESIDE_PX, GREY = 125, 180  # how far from the face's middle the background is plain
WAIT_MS = 60_000  # a machine that does much else is slow, not wrong
expect.set_options(timeout=WAIT_MS)


def find_chromium() -> str | None:
    """The system's Chromium; none is downloaded."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for the tests of one file."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium (Debian, Ubuntu: sudo apt-get install chromium)")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # which root cannot have
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=sandbox)
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """A tab at the page."""

    page: Page
    url: str
    messages: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def home(self, keyed: bool = False) -> None:
        """Go to the start, or to where a key is asked for."""
        self.page.goto(self.url)
        self.page.wait_for_selector("#key-dialog[open]" if keyed else "#home-view:not([hidden])")

    def open(self, job_id: str) -> None:
        """Go to a job by its link."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/#job={job_id}")
        self.page.wait_for_selector("#job-body:not([hidden])")

    def drop(self, content: bytes, name: str, media: str) -> None:
        """Drop a file onto the zone, as from a file manager."""
        transfer = self.page.evaluate_handle(
            """([bytes, name, type]) => {
              const transfer = new DataTransfer();
              const content = Uint8Array.from(atob(bytes), (character) => character.charCodeAt(0));
              transfer.items.add(new File([content], name, { type }));
              return transfer;
            }""",
            [base64.b64encode(content).decode(), name, media],
        )
        for event in ("dragenter", "dragover", "drop"):
            self.page.dispatch_event("#drop", event, {"dataTransfer": transfer})

    def labelled(self) -> str:
        """Wait until the job that is shown is done and all of it is here -> its id."""
        self.page.wait_for_selector("#job-view[data-state=succeeded]", timeout=WAIT_MS)
        self.page.wait_for_selector(".lane-canvas")
        return self.job_id

    @property
    def job_id(self) -> str:
        """Of the job that the address names."""
        return self.page.url.partition("#job=")[2]

    @property
    def time(self) -> float:
        """Where the reader is, seconds."""
        return float(self.page.get_attribute("#lanes", "aria-valuenow") or "nan")

    def click_at(self, time_s: float) -> None:
        """Click the first lane where this time is."""
        share = time_s / float(self.page.get_attribute("#lanes", "aria-valuemax") or "nan")
        canvas = self.page.locator(".lane-canvas").first
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        assert box is not None
        self.page.mouse.click(box["x"] + box["width"] * share, box["y"] + 30)

    def shown_frame(self, index: int) -> None:
        """Wait until the values of this frame of the source are shown and its picture is on the screen."""
        self.page.wait_for_function(
            "(index) => document.querySelector('#now-frame').textContent === `frame ${index}`", arg=index
        )
        self.page.wait_for_function(f"(index) => Math.abs({MARK} - index) < 0.5", arg=index)


# Which frame the video shows: read from the brightness of its mark, which the codec keeps within a step.
MARK = f"""(() => {{
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  context.drawImage(document.querySelector("#screen video"), 8, 8, 16, 16, 0, 0, 1, 1);
  return (context.getImageData(0, 0, 1, 1).data[1] - {LEVEL}) / {STEP};
}})()"""


OpenPage = Callable[..., Visit]


@pytest.fixture
def open_page(browser: Browser, service: Service) -> Iterator[OpenPage]:
    """Opens tabs at the start page.  expected: statuses, or texts, that may be in a message on the console."""
    with ExitStack() as stack:

        def make(
            url: str = service.url, *, expected: tuple[int | str, ...] = (), keyed: bool = False, **context: Any
        ) -> Visit:
            visit = stack.enter_context(watched(browser, url, expected, context))
            visit.home(keyed)
            return visit

        yield make


@contextmanager
def watched(browser: Browser, url: str, expected: tuple[int | str, ...], context: dict[str, Any]) -> Iterator[Visit]:
    """A tab in a context of its own; nothing unexpected may have happened in it at the end."""
    opened = browser.new_context(**context)
    try:
        visit = Visit(opened.new_page(), url)
        visit.page.set_default_timeout(WAIT_MS)
        visit.page.on("console", lambda message: visit.messages.append(f"{message.type}: {message.text}"))
        visit.page.on("pageerror", lambda error: visit.messages.append(str(error)))
        visit.page.on("request", lambda request: visit.hosts.add(urlsplit(request.url).netloc))
        visit.page.on("dialog", lambda dialog: dialog.accept())
        yield visit
    finally:
        opened.close()
    known = [part if isinstance(part, str) else f"status of {part} " for part in expected]
    assert not [text for text in visit.messages if not any(part in text for part in known)]
    assert visit.hosts <= {urlsplit(url).netloc, ""}  # "": blob: and data:


@pytest.fixture(scope="session")
def film(clips: Clips) -> bytes:
    """A VP9 clip with a face that moves and changes, a varying frame rate, and a mark that tells the frame."""
    puppet, pictures, times = Puppet(), [], [0]
    for index in range(FRAMES):
        pose = pose_at(((0, SMILE), (12, GRIEF), (26, RAGE), (FRAMES, SMILE)), index)
        across = 240 + 60 * math.sin(index / 6)
        picture = puppet.picture(pose, (480, 360), (across, 170 + 20 * math.cos(index / 5)))
        picture[:, : round(across) - BESIDE_PX] = GREY  # the flag, whose stars a detector may take for faces
        level = LEVEL + STEP * index
        cv2.rectangle(picture, (0, 0), (MARK_PX, MARK_PX), (level, level, level), -1)
        pictures.append(picture)
        times.append(times[-1] + (40, 40, 120, 80)[index % 4])
    return clips.video(pictures, container="webm", times_ms=times[:-1])


@pytest.fixture(scope="session")
def labelled(service: Service, film: bytes) -> dict[str, Any]:
    """The film as a labelled job, for tests that only look."""
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as http:
        job, _ = Api(http, service).label(film, "film.webm")
        return job
