"""How smooth the page is with a long job: the longest tasks of its main thread while one scrubs, zooms and switches.

    python -m tests.bench.page [--frames 10000] [--faces 3 | --crowd 110] [--trace trace.json]

Prints one JSON object, from a trace of Chromium's: by the clock, and in processor time, which other programs on the
machine do not lengthen.  Exits 1 if a task took more than 50 ms of processor time after the load.  The trace opens in
Chromium's developer tools, under Performance.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import find_chromium
from tests.browser.stored import crowd, invented, store
from tests.service import serving

WORST_MS = 50
MOVES = 200
BEGIN = "scrubbing begins"
MAIN_THREAD = "CrRendererMain"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--faces", type=int, default=3)
    parser.add_argument("--crowd", type=int, default=0, help="so many people, of whom a few are there at a time")
    parser.add_argument("--trace", type=Path)
    given = parser.parse_args()
    program = find_chromium()
    if program is None:
        sys.exit("no Chromium (Debian, Ubuntu: sudo apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as service, sync_playwright() as playwright:
        service.wait_live()
        frames = crowd(given.frames, given.crowd) if given.crowd else invented(given.frames, given.faces)
        job_id = store(service.redis_url, list(frames))
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=sandbox)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        found = {"frames": given.frames, "faces": given.crowd or given.faces, "chromium": browser.version}
        found |= load(page, f"{service.url}/#job={job_id}", given.frames)
        browser.start_tracing(page=page)
        page.wait_for_timeout(500)
        page.evaluate(f"performance.mark('{BEGIN}')")
        scrub(page)
        trace = browser.stop_tracing()
        browser.close()
    found |= measured(json.loads(trace)["traceEvents"])
    if given.trace:
        given.trace.write_bytes(trace)
    print(json.dumps(found, indent=2))
    if found["longest_task_processor_ms"] > WORST_MS:
        sys.exit(1)


def load(page: Page, url: str, frames: int) -> dict[str, Any]:
    """Open the job and wait until all of its records are there."""
    began = time.perf_counter()
    page.goto(url)
    page.wait_for_selector(".lane-canvas")
    page.focus("#lanes")
    while page.text_content("#now-frame") != f"frame {frames - 1}":
        page.keyboard.press("End")
        page.wait_for_timeout(50)
    seconds = time.perf_counter() - began
    page.wait_for_timeout(1000)
    screens = page.evaluate("document.documentElement.scrollHeight / innerHeight")
    return {"load_s": round(seconds, 2), "screens": round(screens, 2)}


def scrub(page: Page) -> None:
    """Drag to and fro over the lanes, hover, zoom, switch members."""
    canvas = page.locator(".lane-canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    if box is None:
        raise RuntimeError("the lane has no place")
    left, width, y = box["x"] + 3, box["width"] - 6, box["y"] + 20
    page.mouse.move(left, y)
    page.mouse.down()
    for move in range(MOVES):
        page.mouse.move(left + width * abs((move / MOVES * 4) % 2 - 1), y)
    page.mouse.up()
    for move in range(MOVES):
        page.mouse.move(left + width * move / MOVES, y)
    for key in "++++++------":
        page.keyboard.press(key)
    for source in (1, 2, 3, 0):  # by place: without a worker nobody tells what members are called
        page.locator(f"#source-choices input[value='{source}']").check(force=True)
        page.wait_for_timeout(100)
    page.wait_for_timeout(500)


def measured(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The tasks of the page's main thread in a trace, without the one in which tracing itself begins."""
    begin = next(e["ts"] for e in events if e["name"] == BEGIN)
    threads = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name" and e["args"]["name"] == MAIN_THREAD}
    tasks = [e for e in events if e["name"] == "RunTask" and (e["pid"], e["tid"]) in threads and "tdur" in e]
    found = [e for e in tasks if e["ts"] >= begin]
    return {
        "moves": 2 * MOVES,
        "tasks": len(found),
        "longest_task_ms": max(e["dur"] for e in found) / 1000,
        "longest_task_processor_ms": max(e["tdur"] for e in found) / 1000,
    }


if __name__ == "__main__":
    main()
