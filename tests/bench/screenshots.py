"""The pictures of the page that the README shows, made of the real service and a clip of its own.

    python -m tests.bench.screenshots [--out docs]

Start, a job with two faces in light and dark, and the same on a phone.  The clip is the public-domain portrait, twice,
bent as `tests/puppet.py` bends it; every label is the default bundle's own.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

import worker  # noqa: F401  # restricts OpenCV, which reads its settings when it is loaded
from app.contract.colours import LABEL_COLOURS, rgb
from tests.browser.conftest import find_chromium
from tests.puppet import FLAT, GRIEF, RAGE, SMILE, WONDER, Picture, Puppet, pose_at
from tests.service import Api, Clips, serving

SIZE = (640, 360)
SECONDS, FPS = 9, 25
ZOOM = 1.15
ONE = ((0, SMILE), (1.2, SMILE), (2.4, WONDER), (3.2, WONDER), (4.2, SMILE), (5.6, SMILE), (7.4, GRIEF), (9, GRIEF))
OTHER = ((0, FLAT), (1, FLAT), (2.2, RAGE), (3.4, RAGE), (4.4, FLAT), (5.6, SMILE), (9, SMILE))
SHOWN_S = 4.0
WIDE: ViewportSize = {"width": 1280, "height": 1136}
PHONE: ViewportSize = {"width": 390, "height": 1220}
COLOURS = 200  # in a picture's palette: the pictures are in git, so they are to be small


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    out = parser.parse_args().out
    program = find_chromium()
    if program is None:
        sys.exit("no Chromium (Debian, Ubuntu: sudo apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as service:
        service.start_worker("worker")
        service.wait_ready()
        clips = Clips(Path(folder))
        clip = clips.video(two_faces(), container="webm")
        with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as http, sync_playwright() as playwright:
            api = Api(http, service)
            sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=program, args=sandbox)
            for content in (clips.video(clips.pictures(30)), clip):
                job_id = api.submit(content)["id"]
                while api.job(job_id)["state"] in {"queued", "running"}:
                    time.sleep(0.5)
            take(browser, f"{service.url}/#job={job_id}", clip, out)
            browser.close()


def two_faces() -> list[Picture]:
    """The portrait beside its mirror image, each with a course of its own."""
    puppet = Puppet()
    half = (SIZE[0] // 2, SIZE[1])
    pictures = []
    for index in range(SECONDS * FPS):
        time_s = index / FPS
        sway = 6 * math.sin(time_s)
        left = puppet.picture(pose_at(ONE, time_s), half, (165 + sway, 138), ZOOM)
        right = puppet.picture(pose_at(OTHER, time_s), half, (155 - sway, 142), ZOOM, mirrored=True)
        pictures.append(np.ascontiguousarray(np.hstack([left, right])))
    return pictures


def take(browser: Browser, url: str, clip: bytes, out: Path) -> None:
    """All pictures."""
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page = browser.new_page(viewport=WIDE, color_scheme=scheme)
        look(page, url, clip)
        save(page, out / f"page-job-{scheme}.png")
        if scheme == "light":
            page.click(".crumb a")
            page.wait_for_selector(".share-words")
            page.wait_for_timeout(500)
            save(page, out / "page-start.png")
        page.close()
    page = browser.new_page(
        viewport=PHONE, color_scheme="light", device_scale_factor=1.5, has_touch=True, is_mobile=True
    )
    look(page, url, clip)
    save(page, out / "page-phone.png")


def look(page: Page, url: str, clip: bytes) -> None:
    """Open the job, show its clip, and go to a moment in which the two faces differ."""
    page.set_default_timeout(120_000)
    page.goto(url)
    page.wait_for_selector("#job-view[data-state=succeeded]")
    page.set_input_files("#again-input", {"name": "two-faces.webm", "mimeType": "video/webm", "buffer": clip})
    page.wait_for_selector(".lane-canvas >> nth=1")
    canvas = page.locator(".lane-canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    if box is None:
        raise RuntimeError("the lane has no place")
    page.mouse.click(box["x"] + box["width"] * SHOWN_S / SECONDS, box["y"] + 20)
    page.mouse.move(1, 1)
    page.evaluate("document.activeElement.blur()")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(1000)


def save(page: Page, path: Path) -> None:
    """What is visible, as a small PNG: few colours, the labels' among them."""
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        plain = picture.convert("RGB")
    exact = [part for colour in LABEL_COLOURS.values() for part in rgb(colour)]
    found = plain.quantize(COLOURS, dither=Image.Dither.NONE).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette(found[: 3 * COLOURS] + exact)
    plain.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path} {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
